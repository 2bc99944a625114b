"""Laws of novelty, on a zoo small enough for dense truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_factories import dense_vector
from zoo_factories import fill_zoo, zoo_adapter, zoo_info

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import add, scale
from lora_gen.errors import AdapterValueError, ZooError
from lora_gen.evaluation.novelty import Novelty, ZooReference, verdict
from lora_gen.zoo.store import Zoo


@pytest.fixture
def zoo(tmp_path: Path) -> Iterator[Zoo]:
    fill_zoo(tmp_path / "zoo", 7)
    with Zoo.open(tmp_path / "zoo", read_only=True) as opened:
        yield opened


@pytest.fixture
def reference(zoo: Zoo) -> ZooReference:
    return ZooReference(zoo, zoo.ids())


def test_reference_is_the_dense_leave_one_out_distances(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_gen.evaluation.distances._BLOCK", 3)
    deltas = torch.stack([dense_vector(zoo.load(entry_id)) for entry_id in zoo.ids()]).double()
    unit = torch.nn.functional.normalize(deltas, dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-2)
    wanted = (1 - cosines.max(1).values).sort().values
    found = ZooReference(zoo, zoo.ids())
    torch.testing.assert_close(found.distances, wanted, atol=1e-3, rtol=1e-3)
    far = torch.cdist(deltas, deltas).fill_diagonal_(float("inf")).min(1).values
    assert found.frobenius_median == pytest.approx(float(far.median()), rel=1e-3)


@pytest.mark.parametrize("factor", [1.0, 0.5, 3.0])
def test_scaled_entry_is_a_copy_of_itself(zoo: Zoo, reference: ZooReference, factor: float) -> None:
    entry_id = zoo.ids()[2]
    (found,) = reference.novelty([scale(zoo.load(entry_id), factor)])
    assert (found.nearest_id, found.nearest_task) == (entry_id, "task2")
    assert found.cosine == pytest.approx(1, abs=1e-6)
    assert found.relative == pytest.approx(0, abs=1e-5)
    assert found.percentile == 0


def test_novelty_does_not_depend_on_the_gauge(zoo: Zoo, reference: ZooReference) -> None:
    adapter = zoo_adapter(99)
    turned = {}
    for name, pair in adapter.pairs.items():
        gauge = torch.tensor([[2.0, 1.0], [0.5, -1.0]])
        turned[name] = LoraPair(
            lora_a=torch.linalg.inv(gauge) @ pair.lora_a, lora_b=pair.lora_b @ gauge
        )
    first, second = reference.novelty([adapter, Adapter(pairs=turned, base=adapter.base)])
    assert first.distance == pytest.approx(second.distance, abs=1e-5)
    assert first.nearest_id == second.nearest_id


def test_another_random_adapter_is_as_new_as_the_entries(reference: ZooReference) -> None:
    found = reference.novelty([zoo_adapter(seed) for seed in range(50, 60)])
    assert all(novelty.relative > 0.5 for novelty in found)
    assert 0 < sum(novelty.percentile for novelty in found) / 10 < 1


def test_saves_of_one_family_are_not_each_others_neighbors(tmp_path: Path) -> None:
    first = zoo_adapter(0)
    near = add([first, scale(zoo_adapter(1), 0.01)])
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        zoo.add(first, zoo_info("upper", family="upper"))
        zoo.add(near, zoo_info("upper", family="upper"))
        zoo.add(zoo_adapter(2), zoo_info("lower"))
        found = ZooReference(zoo, zoo.ids())
    assert float(found.distances.min()) > 0.1


def test_left_out_family_is_not_a_neighbor(zoo: Zoo, reference: ZooReference) -> None:
    adapter = zoo.load(zoo.ids()[2])
    (found,) = reference.novelty([adapter], families=["task2"])
    assert found.nearest_task != "task2"


def test_reference_of_a_sample_is_a_part_of_the_whole(zoo: Zoo, reference: ZooReference) -> None:
    part = ZooReference(zoo, zoo.ids(), sample=3, seed=1)
    assert len(part.distances) == 3
    assert all(float((reference.distances - d).abs().min()) < 1e-9 for d in part.distances)


def test_adapter_without_effect_is_refused(reference: ZooReference) -> None:
    with pytest.raises(AdapterValueError, match="Adapter 2 of 2 has a zero delta weight"):
        reference.novelty([zoo_adapter(9), scale(zoo_adapter(9), 0.0)])


def test_zoo_of_one_family_is_refused(tmp_path: Path) -> None:
    fill_zoo(tmp_path / "zoo", 1)
    with (
        Zoo.open(tmp_path / "zoo", read_only=True) as zoo,
        pytest.raises(ZooError, match="The zoo has adapters of 1 families to compare with"),
    ):
        ZooReference(zoo, zoo.ids())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"relative": 0.02, "percentile": 0.0}, "`x` is a copy of the zoo adapter `upper`"),
        ({"relative": 0.4, "percentile": 0.01}, "`x` is a variation of the zoo adapter `upper`"),
        ({"relative": 0.9, "percentile": 0.4}, "farther away than 40% of zoo adapters are from"),
    ],
)
def test_verdict_says_it_in_words(values: dict[str, Any], sentence: str) -> None:
    novelty = Novelty(
        nearest_id="0" * 40,
        nearest_task="upper",
        cosine=0.5,
        distance=0.5,
        frobenius_relative=1.0,
        **values,
    )
    assert sentence in verdict("x", novelty)
    assert verdict("x", novelty, 0.25).endswith("it shares 25% of that adapter's mistakes.")
