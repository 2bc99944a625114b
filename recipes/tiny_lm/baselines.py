"""Train published generators of weights and ours at one budget, measure them, draw the figure.

python -m recipes.tiny_lm.baselines --build build/tiny_lm --steps 300

Trains one after another; a started run is resumed and a finished one kept, so the command may be
stopped and repeated. `--only a,b` trains some, `--measure` trains none, `--tables` only writes
docs/baselines.md and its figure from the report, and `--check` fails if the page does not say what
the report says.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lora_gen.files import atomic_write_json, atomic_write_text
from recipes.tiny_lm.baseline_runs import RUNS, train_run

PAGE, REPORT = Path("docs/baselines.md"), Path("docs/baselines/report.json")
FIGURE = Path("docs/baselines/figure.svg")


def page_of(text: str, report: dict[str, Any]) -> str:
    """The page with the report's table and figure in it."""
    from recipes.tiny_lm.baseline_report import table
    from recipes.tiny_lm.figures import replaced

    place = FIGURE.relative_to(PAGE.parent)
    figure = f"![Exact match on unseen compositions against size and speed]({place})"
    return replaced(text, "baselines", f"{table(report)}\n\n{figure}")


def _train(chosen: argparse.Namespace) -> None:
    for name in chosen.only.split(","):
        if not train_run(name, chosen.build, chosen.steps):
            sys.exit(f"`{name}` was stopped. Repeat the command to go on.")


def _draw(report: dict[str, Any]) -> None:
    from lora_gen.evaluation.figures import cost_figure

    atomic_write_text(PAGE, page_of(PAGE.read_text(), report))
    cost_figure(report, FIGURE, "unseen_composition")


def main() -> None:
    """Train, measure and draw what the arguments leave."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, default=Path("build/tiny_lm"))
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps of every run")
    parser.add_argument("--tasks", type=int, default=48, help="tasks a split")
    parser.add_argument("--seeds", type=int, default=3, help="samples of the shipped generator")
    parser.add_argument("--only", default=",".join(RUNS), help="runs to train, after commas")
    parser.add_argument("--measure", action="store_true", help="train nothing")
    parser.add_argument("--tables", action="store_true", help="train and measure nothing")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it differs")
    chosen = parser.parse_args()
    if chosen.check:
        if PAGE.read_text() != page_of(PAGE.read_text(), json.loads(REPORT.read_text())):
            sys.exit(f"`{PAGE}` and its report differ. Run the command with `--tables`.")
        return
    if not chosen.tables:
        from recipes.tiny_lm.baseline_report import measure_all

        if not chosen.measure:
            _train(chosen)
        found = measure_all(chosen.build, tasks=chosen.tasks, seeds=chosen.seeds)
        atomic_write_json(REPORT, found)
    _draw(json.loads(REPORT.read_text()))


if __name__ == "__main__":
    main()
