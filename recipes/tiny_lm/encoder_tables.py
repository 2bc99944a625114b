"""Tables of `docs/encoder.md`, one function a section, from the reports of the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_gen.evaluation.encoder_report_text import ordered

Report = Mapping[str, Any]
_UNSEEN = {
    "unseen_composition": "pair of known steps",
    "unseen_argument": "argument of a known step",
    "unseen_primitive": "step",
}
_ASKED = {
    "all": "anything",
    "seen": "seen task",
    "unseen_wording": "seen task in new words",
    "unseen_composition": "new pair of known steps",
    "unseen_argument": "new argument of a known step",
    "unseen_primitive": "new step",
}
_ANSWERED = {
    "training": "trained too little, well or too hard",
    "oddness": "ordinary, or broken or random",
    "wrong labels": "wrong labels among the examples",
    "training examples": "how many training examples",
}


def cell(found: Mapping[str, float]) -> str:
    """A value with its interval."""
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def retrieval_table(retrieval: Report) -> str:
    """Every method and control on the whole gallery."""
    names = ("top1", "top10", "mrr", "regret")
    rows = [
        [_strong(method), *(cell(found["all"][name]) for name in names)]
        for method, found in ordered(retrieval["methods"]).items()
    ]
    queries = retrieval["methods"]["encoder"]["all"]["queries"]
    trained = retrieval["trained on"]
    head = ["method", "top-1", "top-10", "mean reciprocal rank", "regret"]
    note = (
        f"{queries} tasks are asked for in a gallery of {retrieval['gallery']:,}; fitted to "
        f"{trained['adapters']:,} adapters of {trained['tasks']:,} other tasks. 95% bootstrap over "
        "tasks."
    )
    return f"{_table(head, rows)}\n\n{note}"


def unseen_table(found: Report) -> str:
    """The encoder by what is unseen about a task."""
    rows = [
        [name, str(found[key]["queries"]), cell(found[key]["top1"]), cell(found[key]["top10"])]
        for key, name in _UNSEEN.items()
    ]
    return _table(["unseen", "tasks", "top-1", "top-10"], rows)


def baselines_table(report: Report, retrieval: Report) -> str:
    """Networks that others published, on the adapters of one recipe."""
    own = retrieval["one recipe"]["methods"]["encoder"]["all"]
    names = ("top1", "top10")
    rows = [[_strong("encoder"), *(cell(own[name]) for name in names), "closed form", "", ""]]
    for method, found in report["methods"].items():
        cells = [cell(found["all"][name]) for name in names]
        loss, count = f"{found['training loss']:.2f}", f"{found['parameters']:,}"
        rows.append([method, *cells, str(found["steps"]), loss, count])
    head = [f"method, gallery of {report['gallery']}", "top-1", "top-10", "steps"]
    return _table([*head, "training loss", "parameters"], rows)


def quality_tables(quality: Report) -> str:
    """Predicted against measured accuracy, a table for each kind of test."""
    parts = []
    for name, found in quality.items():
        rows = []
        for method, own in found["methods"].items():
            covers = cell(own["coverage"]) if "coverage" in own else ""
            width = f"{own['mean width']:.2f}" if "mean width" in own else ""
            values = [f"{own[key]:.3f}" for key in ("tau", "r2", "mae")]
            shown = _strong(method) if "coverage" in own else method
            rows.append([shown, *values, covers, width])
        head = [f"{name} (n={found['adapters']})", "Kendall τ", "R²", "mean error"]
        parts.append(_table([*head, "90% interval covers", "mean width"], rows))
    return "\n\n".join(parts)


def facts_table(facts: Report) -> str:
    """What else the weights tell of new recipes and tasks."""
    rows = [
        [
            text,
            str(facts[name]["adapters"]),
            cell(facts[name]["accuracy"]),
            f"{facts[name]['balanced accuracy']:.3f}",
            f"{facts[name]['commonest answer']:.3f}",
        ]
        for name, text in _ANSWERED.items()
    ]
    return _table(["question", "adapters", "right", "balanced", "commonest answer"], rows)


def generated_table(report: Report) -> str:
    """What `score` says of generated adapters, by what was new to the generator."""
    rows = [
        [
            _ASKED[name],
            str(found["adapters"]),
            f"{found['accuracy']:.2f}",
            *(f"{found[key]:.3f}" for key in ("tau", "mae")),
            cell(found["coverage"]),
            f"{found['mean width']:.2f}",
            cell(report["left out"][name]["coverage"]) if name in report["left out"] else "",
        ]
        for name, found in report["splits"].items()
    ]
    head = ["asked for", "adapters", "accuracy", "Kendall τ", "mean error", "90% interval covers"]
    return _table([*head, "width", "covers, never calibrated on such"], rows)


def generated_methods_table(report: Report) -> str:
    """The same adapters judged by less."""
    methods = dict(sorted(report["methods"].items(), key=lambda item: -item[1]["tau"]))
    rows = [
        [
            _strong(name),
            *(f"{found[key]:.3f}" for key in ("tau", "r2", "mae")),
            cell(found["coverage"]),
            f"{found['mean width']:.2f}",
        ]
        for name, found in methods.items()
    ]
    head = ["what is read", "Kendall τ", "R²", "mean error", "90% interval covers", "width"]
    return _table(head, rows)


def choosing_line(report: Report) -> str:
    """What the candidate with the best prediction gains."""
    found = report["choosing"]
    return (
        f"Of {found['candidates']} candidates for one request ({found['requests']} requests of "
        f"tasks kept apart), the one with the best prediction does {cell(found['chosen'])}, a "
        f"random one {found['random']['value']:.3f}, the best in hindsight "
        f"{found['best in hindsight']['value']:.3f}. Gain over the first: "
        f"{cell(found['gain']['over first'])}, over a random one: "
        f"{cell(found['gain']['over random'])}."
    )


def speed_table(report: Report) -> str:
    """An adapter of an 8B base, and tables of synthetic vectors."""
    rows = [
        [
            f"encode an 8B adapter, rank {found['rank']}, {found['file_mb']:.0f} MB",
            f"{found['core_seconds']:.2f} core-seconds",
        ]
        for found in report["encode"]
    ]
    for found in report["search"]:
        count = f"{found['rows']:,} adapters"
        rows += [
            [f"{count}: one more, durable (p95)", f"{found['add_one_p95_ms']:.0f} ms"],
            [f"{count}: search (p95)", f"{found['search_p95_ms']:.0f} ms"],
            [f"{count}: open and search first", f"{found['open_s']:.2f} s"],
        ]
    return _table(["what", "takes"], rows)


def kills_line(report: Report) -> str:
    """How many processes were killed, and what was lost."""
    return (
        f"{report['kills']} processes were killed at random moments of {report['acknowledged']} "
        f"acknowledged changes; {report['lost']} were lost, and {report['repaired']} of the next "
        "openings had something to repair, which they said in one line."
    )


def _strong(method: str) -> str:
    own = method.startswith(("encoder", "weights"))
    return f"**{method}**" if own else method
