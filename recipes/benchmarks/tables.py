"""The tables of README.md in this folder and of docs/scale.md, and the pictures, out of reports/.

python -m recipes.benchmarks.tables
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from lora_gen.files import atomic_write_text
from recipes.benchmarks.suite import draw

_HERE = Path(__file__).parent
README = _HERE / "README.md"
PAGES = (README, _HERE.parents[1] / "docs" / "scale.md")
REPORTS = _HERE / "reports"
_BLOCK = re.compile(r"(<!-- report (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def filled(text: str, reports: Path = REPORTS) -> str:
    """The text, with what stands in `reports/NAME/report.md` between its marks of that name."""

    def block(found: re.Match[str]) -> str:
        table = (reports / found[2] / "report.md").read_text("utf-8").split("\n", 2)[2]
        return f"{found[1]}{table.strip()}\n{found[3]}"

    return _BLOCK.sub(block, text)


def main() -> None:
    """Write the tables into the pages, and draw the pictures."""
    for page in PAGES:
        atomic_write_text(page, filled(page.read_text("utf-8")))
    for picture in REPORTS.glob("*/report.svg"):
        draw(picture, json.loads((picture.parent / "report.json").read_text("utf-8")))


if __name__ == "__main__":
    main()
