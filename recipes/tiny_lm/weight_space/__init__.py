"""What merging, compressing, editing and the rest do to behavior in the world of `tiny_lm`."""

from pathlib import Path

REPORTS = Path("docs/weight_space")
"""Where reports, tables and pictures lie."""
