"""Write the tables and pictures of docs/styles.md from the shipped reports.

python -m recipes.tiny_sd.figures

`--check` changes nothing and fails if the page does not say what the reports say.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from recipes.tiny_sd.evaluate import interval_cell, style_tables

REPORTS, PAGE = Path("lora_gen/assets/tiny_sd/reports"), Path("docs/styles.md")
WANTED = {"unseen_composition": "compositions", "unseen_argument": "arguments"} | {
    "unseen_primitive": "primitives",
    "all unseen": "all unseen styles",
}

WAYS = {
    "description": "text encoder",
    "generated": "generator: what it writes for it",
    "both": "both, equally",
}


def styles_part(report: dict[str, Any]) -> str:
    """The tables, and how they were measured."""
    told = report["settings"]
    note = (
        f"{told['pictures']} pictures a style, {told['steps']} sampler steps; 95% bootstrap "
        f"intervals over styles. Generated from text alone, mean over {told['seeds']} seeds and "
        "wordings, none picked."
    )
    return f"{style_tables(report['summary'])}\n{note}"


def retrieval_table(found: dict[str, Any]) -> str:
    """How often a held-out description finds its style, by each way of reading it."""
    lines = [
        f"| looked for among {found['gallery']} adapters | read by | first | among ten |",
        "| --- | --- | --- | --- |",
    ]
    for group, name in WANTED.items():
        for way, title in WAYS.items():
            row = found[way][group]
            cells = " | ".join(interval_cell(row[key]) for key in ("top_1", "top_10"))
            lines += [f"| {name} (n={row['styles']}) | {title} | {cells} |"]
    return "\n".join(lines)


def quality_table(found: dict[str, Any]) -> str:
    """How well a style was learned, told from weights alone."""
    lines = [
        f"| read from the weights of {found['unseen']} unseen styles | Kendall tau | R2 "
        "| mean error | 90% interval covers |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in found["methods"].items():
        told = f"{row['tau']:.2f} | {row['r2']:.2f} | {row['mae']:.3f}"
        lines += [f"| {name} | {told} | {interval_cell(row['coverage'])} |"]
    return "\n".join(lines)


def strength_table(found: dict[str, Any]) -> str:
    """Style and content at each strength, of generated adapters and of trained ones."""
    curves = found["curves"]
    names = list(curves)
    lines = [
        f"| strength (n={len(found['styles'])}) | "
        + " | ".join(f"{name}: {what}" for name in names for what in ("style", "content"))
        + " |",
        "| --- " * (1 + 2 * len(names)) + "|",
    ]
    for strength in curves[names[0]]:
        rows = [curves[name][strength][what] for name in names for what in ("style", "content")]
        lines += [f"| {strength} | {' | '.join(interval_cell(row) for row in rows)} |"]
    return "\n".join(lines)


def training_sentence(found: dict[str, Any]) -> str:
    """What the loss says of unseen compositions."""
    return (
        f"After {found['steps']:,} steps of two CPU cores its adapters remove "
        f"{found['gain_validation']:.2f} of the base's prediction error on new pictures of unseen "
        "compositions, from a sentence alone; adapters that were trained on pictures of the style "
        f"remove {found['zoo_gain']['unseen_composition']:.2f}."
    )


def drawn(page: str) -> str:
    """The page with its marked parts as the reports say."""
    for name, made in (
        ("styles", styles_part(_read("report.json"))),
        ("retrieval", retrieval_table(_read("retrieval.json"))),
        ("training", training_sentence(_read("training.json"))),
        ("quality", quality_table(_read("quality.json"))),
        ("strength", strength_table(_read("strength.json"))),
    ):
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        start, stop = page.index(begin) + len(begin), page.index(end)
        page = f"{page[:start]}\n{made}\n{page[stop:]}"
    return page


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPORTS / name).read_text("utf-8"))
    return found


def main() -> int:
    """Draw, or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    before = PAGE.read_text("utf-8")
    after = drawn(before)
    if parser.parse_args().check:
        return int(after != before)
    PAGE.write_text(after, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
