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
_REFERENCES = ("norms and recipe", "norms, recipe and agreement")
_SUPPORTED, _NEW = "unseen tasks, seen recipes", "unseen tasks and recipes"
_ASKED_OF_RECIPES = {
    "rank": "rank (of five)",
    "targets": "modules (of three sets)",
    "lr": "learning rate (of five)",
    "steps": "steps (of five)",
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
    """Networks that others published, in the same gallery."""
    whole = report["gallery"] == retrieval["gallery"]
    own = retrieval if whole else retrieval["one recipe"]
    found = own["methods"]["encoder"]["all"]
    names = ("top1", "top10")
    rows = [[_strong("encoder"), *(cell(found[name]) for name in names), "closed form", "", ""]]
    for method, other in report["retrieval"].items():
        cells = [cell(other["all"][name]) for name in names]
        loss, count = f"{other['training loss']:.2f}", f"{other['parameters']:,}"
        rows.append([method, *cells, str(other["steps"]), loss, count])
    head = [f"method, gallery of {report['gallery']:,}", "top-1", "top-10", "steps"]
    return _table([*head, "training loss", "parameters"], rows)


def quality_tables(quality: Report, others: Report) -> str:
    """Predicted against measured accuracy: all of what counts most, less of the other tests."""
    parts = list[str]()
    for name, found in quality.items():
        learned = {method: own["tests"][name] for method, own in others["quality"].items()}
        simple = {method: own for method, own in found["methods"].items() if "gain" not in own}
        if name != _NEW:
            simple = {method: simple[method] for method in _REFERENCES if method in simple}
        own = {method: told for method, told in found["methods"].items() if "gain" in told}
        rows = [_judged(*item) for item in {**simple, **learned, **own}.items()]
        head = [f"{name} (n={found['adapters']})", "Kendall τ", "R²", "mean error"]
        parts.append(_table([*head, "90% interval covers", "width"], rows))
        parts.append(_gains(own))
    return "\n\n".join(parts)


def _judged(method: str, found: Report) -> list[str]:
    covers = cell(found["coverage"]) if "coverage" in found else ""
    width = f"{found['mean width']:.2f}" if "mean width" in found else ""
    values = [cell(found[f"{name} interval"]) for name in ("tau", "r2")]
    shown = _strong(method) if "gain" in found else method
    return [shown, *values, f"{found['mae']:.3f}", covers, width]


def _gains(own: Report) -> str:
    """What is gained over the linear model that is told the recipe."""
    gains = [
        f"{method}: τ {found['gain']['tau']['value']:+.3f} "
        f"[{found['gain']['tau']['low']:+.3f}, {found['gain']['tau']['high']:+.3f}], "
        f"R² {found['gain']['r2']['value']:+.3f} "
        f"[{found['gain']['r2']['low']:+.3f}, {found['gain']['r2']['high']:+.3f}]"
        for method, found in own.items()
    ]
    return "Over norms and recipe, in pairs: " + "; ".join(gains) + "."


def leak_table(report: Report) -> str:
    """What vectors tell of a recipe, and retrieval without it."""
    told = report["told"]
    rows = [
        [
            _ASKED_OF_RECIPES[question],
            cell(told["vector"][question]["accuracy"]),
            cell(told["norms"][question]["accuracy"]),
            f"{told['vector'][question]['commonest answer']:.3f}",
        ]
        for question in told["vector"]
    ]
    head = [f"of {report['adapters']} adapters", "vector", "norms", "commonest answer"]
    found = report["retrieval"]
    both = [
        f"{cell(found[name]['top1'])} and {cell(found[name]['top10'])}"
        for name in ("as it is", "without the recipe")
    ]
    note = (
        f"Without the {found['directions']} directions in which the means of recipes differ, top-1 "
        f"and top-10 are {both[1]}; with them {both[0]}."
    )
    return f"{_table(head, rows)}\n\n{note}"


def facts_table(quality: Report) -> str:
    """What else the weights tell, of recipes that were learned from and of new ones."""
    seen, new = (quality[name] for name in (_SUPPORTED, _NEW))
    rows = [
        [
            text,
            str(new["facts"][name]["adapters"]),
            cell(seen["facts"][name]["accuracy"]),
            cell(new["facts"][name]["accuracy"]),
            f"{new['facts'][name]['balanced accuracy']:.3f}",
            f"{new['facts'][name]['controls']['norms']['accuracy']['value']:.3f}",
            f"{new['facts'][name]['commonest answer']:.3f}",
        ]
        for name, text in _ANSWERED.items()
    ]
    family = new["family"]
    rows.append(
        [
            f"which of {family['kinds']} kinds of data it works on (nearest adapter)",
            str(family["adapters"]),
            cell(seen["family"]["nearest adapter"]),
            cell(family["nearest adapter"]),
            "",
            f"{family['norms']['value']:.3f}",
            f"{family['commonest answer']:.3f}",
        ]
    )
    head = ["question", "adapters", "seen recipes: right", "new recipes: right", "balanced"]
    return _table([*head, "norms", "commonest answer"], rows)


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
            _encoding(found),
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


def _encoding(found: Report) -> str:
    took = f"{found['core_seconds']:.2f} core-seconds"
    if "memory_mb" not in found:
        return took
    return f"{took}, {found['memory_mb']:.0f} MB with the adapter"


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
