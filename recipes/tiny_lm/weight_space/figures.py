"""Write the tables and pictures of docs/weight_space.md from the reports beside it.

python -m recipes.tiny_lm.weight_space.figures

A report that does not exist leaves its section as it is.
"""

from __future__ import annotations

import json
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
    "federate": ("federate", tables.federate_table),
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


def main() -> None:
    """Write what there are reports for."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "lora_gen"
    from matplotlib import pyplot

    reports = {path.stem: json.loads(path.read_text()) for path in sorted(REPORTS.glob("*.json"))}
    text = PAGE.read_text()
    for section, (name, make) in TABLES.items():
        if name in reports:
            begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
            before, rest = text.split(begin)
            text = f"{before}{begin}\n{make(reports[name])}\n{end}{rest.split(end)[1]}"
    PAGE.write_text(text)
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
