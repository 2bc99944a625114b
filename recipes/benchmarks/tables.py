"""The tables of README.md in this folder, out of the reports beside it.

python -m recipes.benchmarks.tables
"""

from __future__ import annotations

import re
from pathlib import Path

from lora_gen.files import atomic_write_text

_HERE = Path(__file__).parent
README = _HERE / "README.md"
REPORTS = _HERE / "reports"
_BLOCK = re.compile(r"(<!-- report (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def filled(text: str, reports: Path = REPORTS) -> str:
    """The text, with what stands in `reports/NAME/report.md` between its marks of that name."""

    def block(found: re.Match[str]) -> str:
        table = (reports / found[2] / "report.md").read_text("utf-8").split("\n", 2)[2]
        return f"{found[1]}{table.strip()}\n{found[3]}"

    return _BLOCK.sub(block, text)


def main() -> None:
    """Write the tables into the README."""
    atomic_write_text(README, filled(README.read_text("utf-8")))


if __name__ == "__main__":
    main()
