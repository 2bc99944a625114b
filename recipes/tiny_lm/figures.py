"""Write the figures of the README and of the evidence from the reports.

python -m recipes.tiny_lm.figures

`--check` changes nothing and fails if a page does not say what the reports say.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from recipes.tiny_lm.evidence_tables import conditions_table, readings_table

REPORTS = Path("lora_gen/assets/tiny_lm/reports")
README, PLOT = Path("README.md"), Path("docs/results.svg")
EVIDENCE = Path("docs/evidence.md")
SPLITS = ("seen", "unseen_wording", "unseen_composition", "unseen_argument", "unseen_primitive")
METHODS = ("base zero-shot", "mean LoRA", "nearest text", "generated", "base 4-shot", "oracle LoRA")


def table(report: dict[str, Any], base: dict[str, Any], speed: dict[str, Any]) -> str:
    """The README's section, markers excluded."""
    splits = [split for split in SPLITS if split in report["summary"]]
    head = [
        "exact match",
        *(f"{s.replace('_', ' ')} (n={report['summary'][s]['tasks']})" for s in splits),
    ]
    rows = [head, ["---"] * len(head)]
    for method in METHODS:
        cells = [report["summary"][s]["exact_match"][method] for s in splits]
        rows.append(
            [method, *(f"{c['value']:.2f} [{c['low']:.2f}, {c['high']:.2f}]" for c in cells)]
        )
    shares = [report["summary"][s]["share_of_oracle_gain"].get("generated") for s in splits]
    rows.append(
        [
            "**generated, share of the oracle's gain**",
            *(
                f"**{c['value']:.2f}** [{c['low']:.2f}, {c['high']:.2f}]" if c else "n/a"
                for c in shares
            ),
        ]
    )
    zero, few = (base["exact_match"][f"{shots}-shot"]["value"] for shots in (0, 4))
    note = (
        f"Embedded base `tiny_lm`; {report['inputs']} test inputs a task; 95% bootstrap intervals "
        f"over tasks. Generated from text alone, mean over {report['seeds']} seeds and wordings, "
        f"none picked. Over all {base['tasks']} tasks the bare base reaches {zero:.3f} zero-shot "
        f"and {few:.3f} with four examples. `lora-gen generate --try` takes "
        f"{speed['generate_seconds']['median']:.1f} s on {speed['cores']} cores, imports included, "
        f"of which the sampler {speed['sampler_seconds']:.2f} s."
    )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", note])


def plot(report: dict[str, Any], path: Path) -> None:
    """Bars with intervals: methods beside each other on each split."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "lora_gen"
    from matplotlib import pyplot

    splits = [split for split in SPLITS if split in report["summary"]]
    colors = ("#9aa5b1", "#c9b458", "#e0954a", "#2563eb", "#7c6fb0", "#4a9d6e")
    figure, axes = pyplot.subplots(figsize=(9, 3.6))
    for i, method in enumerate(METHODS):
        cells = [report["summary"][split]["exact_match"][method] for split in splits]
        values = [cell["value"] for cell in cells]
        errors = [
            [cell["value"] - cell["low"] for cell in cells],
            [cell["high"] - cell["value"] for cell in cells],
        ]
        where = [j + (i - 2.5) * 0.14 for j in range(len(splits))]
        axes.bar(
            where, values, 0.13, yerr=errors, label=method, color=colors[i], error_kw={"lw": 0.8}
        )
    axes.set_xticks(range(len(splits)), [split.replace("_", " ") for split in splits])
    axes.set_ylabel("exact match")
    axes.set_ylim(0, 1.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        ncols=6, fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.14)
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    report = _report("report")
    sections = {
        README: {"results": table(report, _report("base"), _report("speed"))},
        EVIDENCE: {
            "conditions": conditions_table(_report("conditions")),
            "readings": readings_table(_report("readings")),
        },
    }
    for page, tables in sections.items():
        text = new = page.read_text()
        for name, found in tables.items():
            new = replaced(new, name, found)
        if check and new != text:
            sys.exit(f"`{page}` and reports differ. Run `python -m recipes.tiny_lm.figures`.")
        if not check:
            page.write_text(new)
    if not check:
        plot(report, PLOT)


def _report(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPORTS / f"{name}.json").read_text())
    return found


def replaced(text: str, name: str, found: str) -> str:
    """The page with the section between the markers of `name` replaced."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{found}\n{end}{after}"


if __name__ == "__main__":
    main()
