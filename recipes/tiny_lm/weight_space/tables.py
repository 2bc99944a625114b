"""Tables of docs/weight_space.md, each from one report."""

from __future__ import annotations

from typing import Any

Report = dict[str, Any]


def cell(interval: dict[str, float]) -> str:
    """An interval as text."""
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def merge_table(report: Report) -> str:
    """Methods by number of tasks, the best merge first."""
    sizes = sorted(report["sizes"], key=int)
    found = {size: report["sizes"][size]["exact_match"] for size in sizes}
    first = found["4" if "4" in found else sizes[0]]
    names = sorted(first, key=lambda name: -first[name]["value"])
    rows = [
        [name, *(cell(found[s][name]) if name in found[s] else "" for s in sizes)] for name in names
    ]
    head = ["exact match", *(f"{s} tasks (n={report['sizes'][s]['groups']} groups)" for s in sizes)]
    return table(head, rows)


def compress_table(report: Report) -> str:
    """Ways by bytes."""
    found = sorted(report["rows"].items(), key=lambda item: -item[1]["bytes"])
    rows = [
        [name, f"{row['bytes']:,}", cell(row["exact_match"]), cell(row["loss"])]
        for name, row in found
    ]
    return table(["way", "bytes an adapter", "exact match", "loss against the original"], rows)


def lineage_table(report: Report) -> str:
    """Recall by kind, and both totals."""
    rows = [
        [kind, f"{row['right']} of {row['planted']}"]
        for kind, row in report["recall_by_kind"].items()
    ]
    rows.append(["all planted", cell(report["recall"])])
    rows.append(["of all claims, right", cell(report["precision"])])
    return table(["relation", "found with kind and parents right"], rows)


def edit_table(report: Report) -> str:
    """Ways to edit."""
    rows = [[name, cell(found)] for name, found in report["exact_match"].items()]
    return table(["adapter", f"exact match on the edited task (n={report['tasks']})"], rows)


def federate_table(report: Report) -> str:
    """Ways to aggregate by round."""
    found = report["rounds"]
    rounds = len(next(iter(found.values())))
    rows = [[name, *(cell(one) for one in values)] for name, values in found.items()]
    return table(["aggregation", *(f"round {i + 1}" for i in range(rounds))], rows)


def personal_table(report: Report) -> str:
    """What clients get, those of the federation and new ones."""
    head = [
        "a client's adapter",
        f"of the {report['clients']} clients",
        f"of {report['new']} new clients",
    ]
    rows = [
        [name, cell(found["own"]) if "own" in found else "", cell(found["new"])]
        for name, found in report["ways"].items()
    ]
    return table(head, rows)


def nowcast_table(report: Report) -> str:
    """Share of steps saved, by the plain run's step whose loss is to be reached."""
    late = list(next(iter(report["saved"].values())))
    rows = [[name, *(cell(found[one]) for one in late)] for name, found in report["saved"].items()]
    return table(["way", *(f"to the loss at step {one}" for one in late)], rows)


def continual_table(report: Report) -> str:
    """Old and new tasks after all increments, a way a row."""
    columns = ("old kept", "seen kept", "compositions kept", "new, after")
    rows = [
        [name, *(cell(found[column]) for column in columns)]
        for name, found in report["ways"].items()
    ]
    before = next(iter(report["ways"].values()))
    rows.append(["before", "1", "1", "1", cell(before["new, before"])])
    head = ["way", "old tasks kept", "of seen", "of unseen compositions", "new tasks"]
    return table(head, rows)


def choose_table(report: Report) -> str:
    """Regret by budget."""
    budgets = list(next(iter(report["regret"].values())))
    rows = [[way, *(cell(found[b]) for b in budgets)] for way, found in report["regret"].items()]
    rows.sort(key=lambda row: sum(report["regret"][row[0]][b]["value"] for b in budgets))
    return table(["way to choose", *(f"{int(b):,} parameters" for b in budgets)], rows)


def invert_table(report: Report) -> str:
    """Inversions."""
    head = [f"exact match on the given adapter's task (n={report['tasks']})", ""]
    return table(head, [[name, cell(found)] for name, found in report["inversion"].items()])


def reword_table(report: Report) -> str:
    """Edits by other words."""
    head = [f"exact match on the edited task (n={report['edits']})", ""]
    return table(head, [[name, cell(found)] for name, found in report["edit"].items()])


def balance_table(report: Report) -> str:
    """Gauges by steps."""
    rows = [[name, *(cell(one) for one in found)] for name, found in report["rows"].items()]
    return table(["start, learning rate", *(f"{step} steps" for step in report["steps"])], rows)


def augment_table(report: Report) -> str:
    """What the reader was shown by what it is asked."""
    asked = report["asked"]
    rows = [[name, *(cell(found[one]) for one in asked)] for name, found in report["rows"].items()]
    return table(["learned from", *(f"of {one}" for one in asked)], rows)


def augment_generator_table(report: Report) -> str:
    """Trainings of a generator, by exact match and by what changed copies add to it."""
    columns = ("seen", "held out", "more exact", "less log loss")
    rows = [
        [name, *(cell(row[key]) if key in row else "" for key in columns)]
        for name, row in report["rows"].items()
    ]
    head = [
        "trained on",
        f"seen (n={report['seen']})",
        f"held out (n={report['held_out']})",
        "held out, above adapters as they are",
        "log loss, below adapters as they are",
    ]
    return table(head, rows)


def kinship_table(report: Report) -> str:
    """Students by measure."""
    rows = [
        [name, cell(found["first"]), cell(found["found"]), cell(found["false"])]
        for name, found in report["measures"].items()
    ]
    head = ["compared by", "teacher is nearest", "teacher is claimed", "others' claims, wrong"]
    return table(head, rows)
