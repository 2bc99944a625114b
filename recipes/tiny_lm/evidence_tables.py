"""Tables of `docs/evidence.md` from the reports on conditions and on ambiguous descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = {
    "all": "all",
    "grouping": "readings never grouped so",
    "wording": "words never seen",
    "step": "a vague step beside a clear one",
    "choice": "a choice of unseen compositions",
}
COLUMNS = {
    "covered_by_first": "covered by one sample",
    "covered": "covered by {samples}",
    "chosen_share_of_gain": "best of {samples} by 2 examples",
    "with_examples_share_of_gain": "told with 8 examples",
}


def cell(found: Mapping[str, float] | None) -> str:
    """A value with its interval."""
    if found is None:
        return "n/a"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _table(rows: list[list[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def conditions_table(report: Mapping[str, Any]) -> str:
    """Share of the oracle's gain by condition and split."""
    splits = report["splits"]
    names = [name for name in next(iter(splits.values())) if name not in ("base", "oracle LoRA")]
    rows = [["shown", *(split.replace("_", " ") for split in splits)]]
    rows += [[name, *(cell(splits[s][name]["share_of_gain"]) for s in splits)] for name in names]
    note = (
        f"Share of the oracle's gain, {report['tasks']} tasks of each split at most, "
        f"{report['inputs']} test inputs a task, 95% bootstrap intervals over tasks; one adapter "
        "each, none picked but where it says so."
    )
    return f"{_table(rows)}\n\n{note}"


def readings_table(report: Mapping[str, Any]) -> str:
    """What samples for ambiguous descriptions do, beside the nearest descriptions of the zoo."""
    heads = [text.format(samples=report["samples"]) for text in COLUMNS.values()]
    rows = [["descriptions", "method", *heads]]
    for split, name in NAMES.items():
        for method, found in report["methods"].items():
            one = found["splits"].get(split)
            if one is not None:
                label = f"{name} (n={one['descriptions']})"
                rows.append([label, method, *(cell(one.get(column)) for column in COLUMNS)])
    note = (
        f"A reading is covered if a sample answers at least half of its {report['inputs']} tests "
        "exactly. The last two columns are shares of the oracle's gain on the reading that is "
        "meant, over the readings that have an oracle. 95% bootstrap intervals over descriptions."
    )
    return f"{_table(rows)}\n\n{note}"
