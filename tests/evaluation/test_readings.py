from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lora_gen.errors import ConfigError
from lora_gen.evaluation import readings
from lora_gen.evaluation.readings import SHOWN, OpenDescription, measure, read_descriptions, summary

PAIRS = {name: tuple((f"{name}{i}", name) for i in range(SHOWN + 2)) for name in ("a", "b", "c")}
ONE = OpenDescription(split="grouping", text="shorten it", pairs=PAIRS)


def _line(**changes: Any) -> str:
    record = {"split": "s", "descriptions": ["x"], "readings": ["a"], "pairs": {"a": PAIRS["a"]}}
    return json.dumps(record | changes) + "\n"


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A world in which an adapter is the answer it gives, and examples choose the right one."""

    def hits(bench: Any, pairs: Any, adapters: Any) -> torch.Tensor:
        each = len(pairs) // len(adapters)
        return torch.tensor([answer == adapters[i // each] for i, (_, answer) in enumerate(pairs)])

    def best(model: Any, chat: Any, adapters: Any, examples: Any) -> list[int]:
        return sorted(range(len(adapters)), key=lambda i: adapters[i] != examples[0][1])

    monkeypatch.setattr(readings, "hits", hits)
    monkeypatch.setattr(readings, "best_by_examples", best)
    bench: Any = SimpleNamespace(model=None, chat=None, inputs=2)
    sample: Any = lambda text, count, examples: ["a"] if examples else ["b", "a", "a"]  # noqa: E731
    return measure(bench, sample, [ONE, ONE], 3)


def test_reading_is_covered_if_any_sample_answers_it(records: list[dict[str, Any]]) -> None:
    assert records[0]["covered"] == [1.0, 1.0, 0.0]
    assert records[0]["covered_by_first"] == [0.0, 1.0, 0.0]


def test_examples_choose_among_the_samples(records: list[dict[str, Any]]) -> None:
    assert records[0]["chosen"] == {"a": 1.0, "b": 1.0, "c": 0.0}
    assert records[0]["with_examples"] == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_summary_averages_over_descriptions_and_compares_with_oracles(
    records: list[dict[str, Any]],
) -> None:
    found = summary(records, {"a": (0.0, 1.0), "c": (0.0, 1.0)})
    assert set(found) == {"all", "grouping"}
    assert found["all"]["covered"]["value"] == pytest.approx(2 / 3)
    assert found["all"]["covered_by_first"]["value"] == pytest.approx(1 / 3)
    assert found["all"]["chosen_share_of_gain"]["value"] == pytest.approx(0.5)


def test_descriptions_are_read_with_their_pairs(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(_line())
    (found,) = read_descriptions(tmp_path / "f", inputs=2)
    assert found == OpenDescription(split="s", text="x", pairs={"a": PAIRS["a"]})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]\n", "line 1 is not a description with readings and their pairs"),
        (_line(readings=["z"]), "line 1 is not a description"),
        (_line(pairs={"a": PAIRS["a"][:5]}), r"has 5 pairs of `a`, but 10 are needed\. Lower"),
    ],
)
def test_wrong_descriptions_are_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "f").write_text(line)
    with pytest.raises(ConfigError, match=message):
        read_descriptions(tmp_path / "f", inputs=2)
