"""Write the tables and pictures of docs/weight_space.md from the reports beside it.

python -m recipes.tiny_lm.weight_space.figures [--check]

A report that does not exist leaves its section as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes.tiny_lm.weight_space import REPORTS, plots, tables

PAGE = Path("docs/weight_space.md")
Report = dict[str, Any]

TABLES: dict[str, tuple[str, Callable[[Report], str]]] = {
    "merge": ("merge", tables.merge_table),
    "compress": ("compress", tables.compress_table),
    "lineage": ("lineage", tables.lineage_table),
    "kinship": ("kinship", tables.kinship_table),
    "edit": ("edit", tables.edit_table),
    "invert": ("invert", tables.invert_table),
    "reword": ("invert", tables.reword_table),
    "balance": ("balance", tables.balance_table),
    "augment": ("augment", tables.augment_table),
    "augment-generator": ("augment_generator", tables.augment_generator_table),
    "federate": ("federate", tables.federate_table),
    "personal": ("personal", tables.personal_table),
    "nowcast": ("nowcast", tables.nowcast_table),
    "continual": ("continual", tables.continual_table),
    "choose": ("choose", tables.choose_table),
}
"""Section -> its report and what makes its table."""
PLOTS: dict[str, tuple[float, Callable[[Any, Report], None]]] = {
    "compress": (3.6, plots.compress_plot),
    "merge": (4.8, plots.merge_plot),
    "paths": (3.6, plots.path_plot),
    "nowcast": (3.2, plots.nowcast_plot),
    "continual": (3.0, plots.continual_plot),
}
"""Report -> height of its picture and what draws it."""


def page(text: str, reports: dict[str, Report]) -> str:
    """The page with every table as its report says."""
    for section in TABLES:
        text = _filled(text, section, reports)
    return text


def stale(text: str, reports: dict[str, Report]) -> list[str]:
    """Sections whose table is not as its report says, and reports whose picture is missing."""
    tables = [section for section in TABLES if _filled(text, section, reports) != text]
    drawn = [f"{name}.svg" for name in PLOTS if name in reports]
    return tables + [name for name in drawn if not (REPORTS / name).is_file()]


def _filled(text: str, section: str, reports: dict[str, Report]) -> str:
    name, make = TABLES[section]
    if name not in reports:
        return text
    begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{make(reports[name])}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Write what there are reports for, or with `--check` only say what is not as they say."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; fail where it differs")
    is_check = parser.parse_args().check
    reports = {path.stem: json.loads(path.read_text()) for path in sorted(REPORTS.glob("*.json"))}
    if is_check:
        found = stale(PAGE.read_text(), reports)
        sys.exit(f"{PAGE} is not as drawn: {', '.join(found)}" if found else 0)
    PAGE.write_text(page(PAGE.read_text(), reports))
    draw_all(reports)


def draw_all(reports: dict[str, Report]) -> None:
    """Every picture that there is a report for."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "lora_gen"
    from matplotlib import pyplot

    for name, (height, draw) in PLOTS.items():
        if name in reports:
            figure = pyplot.figure(figsize=(7.5, height))
            draw(figure, reports[name])
            for axes in figure.axes:
                axes.spines[["top", "right"]].set_visible(False)
            figure.tight_layout()
            figure.savefig(REPORTS / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
