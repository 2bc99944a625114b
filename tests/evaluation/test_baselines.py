"""Laws of the baselines, on a zoo small enough for dense truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from adapter_factories import dense_vector
from generator_factories import StubTextEncoder, byte_base, task_zoo, tiny_layout
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import add, cosine, norm, truncate
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.profile import cast_factors
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.scaling import TokenScaling
from lora_gen.evaluation.baselines.gaussian import TokenGaussian
from lora_gen.evaluation.baselines.nearest import NearestText
from lora_gen.evaluation.baselines.noise import noisy
from lora_gen.evaluation.baselines.ridge import KernelRidge, leave_one_out_error
from lora_gen.evaluation.baselines.soup import text_soups
from lora_gen.evaluation.baselines.weighted import weighted_sums
from lora_gen.evaluation.distances import gram_with_zoo, zoo_gram
from lora_gen.zoo.store import Zoo


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    task_zoo(folder / "zoo", byte_base(folder / "base"))
    return folder


@pytest.fixture
def zoo(world: Path) -> Iterator[Zoo]:
    with Zoo.open(world / "zoo", read_only=True) as opened:
        yield opened


@pytest.fixture
def ids(zoo: Zoo) -> list[str]:
    return sorted(zoo.ids())


@pytest.fixture
def nearest(zoo: Zoo, ids: list[str]) -> NearestText:
    return NearestText(zoo, ids, StubTextEncoder())  # type: ignore[arg-type]


def dense(adapters: list[Adapter]) -> Tensor:
    return torch.stack([dense_vector(adapter) for adapter in adapters])


def loaded(zoo: Zoo, ids: list[str]) -> list[Adapter]:
    return [cast_factors(zoo.load(entry_id), torch.float32) for entry_id in ids]


@pytest.mark.parametrize("block", [1, 3, 64])
def test_weighted_sums_are_the_cut_dense_sums(
    zoo: Zoo, ids: list[str], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_gen.evaluation.baselines.weighted._BLOCK", block)
    weights = torch.tensor([[1.0, -0.5, 0.25, 2.0], [0.1, 0.0, 0.9, 0.0]])
    found = weighted_sums(zoo, ids, weights, rank=3)
    wanted = [truncate(add(loaded(zoo, ids), row), 3) for row in weights.tolist()]
    assert {adapter.max_rank for adapter in found} == {3}
    torch.testing.assert_close(dense(found), dense(wanted), atol=1e-4, rtol=1e-3)


def test_soup_is_the_weighted_mean_of_neighbors(
    zoo: Zoo, nearest: NearestText, ids: list[str]
) -> None:
    (soup,) = text_soups(zoo, nearest, ["make it upper"], count=3, rank=64)
    near = nearest.neighbors(["make it upper"], 3)[0]
    weights = torch.softmax(torch.tensor([c for _, c in near]) / 0.05, 0)
    wanted = weights.double() @ dense(loaded(zoo, [i for i, _ in near]))
    torch.testing.assert_close(dense_vector(soup), wanted, atol=5e-3, rtol=1e-2)


def test_soup_of_one_is_the_nearest_adapter(zoo: Zoo, nearest: NearestText, ids: list[str]) -> None:
    texts = [zoo.get(entry_id).descriptions[0] for entry_id in ids]
    soups = text_soups(zoo, nearest, texts, count=1, rank=2)
    torch.testing.assert_close(dense(soups), dense(loaded(zoo, ids)), atol=5e-3, rtol=1e-2)


def test_neighbors_name_an_entry_once_nearest_first(nearest: NearestText, ids: list[str]) -> None:
    (found,) = nearest.neighbors(["make it upper"], 16)
    assert sorted(entry_id for entry_id, _ in found) == ids
    cosines = [cosine for _, cosine in found]
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] == pytest.approx(1, abs=1e-5)


def test_ridge_without_penalty_returns_the_entries(
    zoo: Zoo, nearest: NearestText, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_gen.evaluation.baselines.ridge.RIDGES", (1e-9,))
    ridge = KernelRidge(zoo, nearest, rank=2)
    ridge.nearest.embed = lambda texts: ridge.vectors_ME  # type: ignore[method-assign]
    found = ridge.adapters(["any"] * len(ids))
    torch.testing.assert_close(dense(found), dense(loaded(zoo, ridge.ids)), atol=1e-3, rtol=1e-2)


def test_ridge_at_full_size_has_the_zoo_s_norm_and_its_own_direction(
    zoo: Zoo, nearest: NearestText, ids: list[str]
) -> None:
    ridge = KernelRidge(zoo, nearest, rank=2)
    (plain,), (sized,) = ridge.adapters(["make it upper"]), ridge.full_size(["make it upper"])
    assert cosine(plain, sized) == pytest.approx(1, abs=1e-5)
    squares = [norm(adapter) ** 2 for adapter in loaded(zoo, ids)]
    assert norm(sized) ** 2 == pytest.approx(sum(squares) / len(squares), rel=1e-3)


def test_leave_one_out_error_is_that_of_refitting() -> None:
    torch.manual_seed(0)
    points, targets = torch.randn(7, 3).double(), torch.randn(7, 5).double()
    kernel = torch.exp(-torch.cdist(points, points))
    total = 0.0
    for i in range(7):
        rest = [j for j in range(7) if j != i]
        own = kernel[rest][:, rest] + 0.1 * torch.eye(6)
        guess = kernel[i, rest] @ torch.linalg.solve(own, targets[rest])
        total += float((guess - targets[i]).square().sum())
    wanted = total / float(targets.square().sum())
    assert leave_one_out_error(kernel, targets @ targets.T, 0.1) == pytest.approx(wanted)


def test_noise_of_level_zero_changes_nothing(zoo: Zoo, ids: list[str]) -> None:
    adapter = zoo.load(ids[0])
    same = noisy(adapter, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(dense_vector(same), dense_vector(adapter), atol=1e-3, rtol=1e-2)


def test_noise_moves_further_at_a_higher_level(zoo: Zoo, ids: list[str]) -> None:
    adapter = zoo.load(ids[0])
    near, far = (noisy(adapter, x, torch.Generator().manual_seed(0)) for x in (0.25, 0.5))
    assert cosine(adapter, far) < cosine(adapter, near) < 0.999


def test_gaussian_has_the_mean_and_spread_of_the_tokens(
    world: Path, zoo: Zoo, ids: list[str]
) -> None:
    spec = BaseModelSpec.from_config(str(world / "base"))
    codec = AdapterCodec(layout=tiny_layout(2, spec=spec), scaling=TokenScaling())
    fitted = TokenGaussian(zoo, ids, codec)
    tokens = torch.stack([codec.encode(zoo.load(entry_id)) for entry_id in ids]).double()
    torch.testing.assert_close(fitted.mean_ND, tokens.mean(0))
    torch.testing.assert_close(fitted.std_ND, tokens.std(0, correction=0))


def test_gaussian_of_one_entry_draws_that_entry(world: Path, zoo: Zoo, ids: list[str]) -> None:
    spec = BaseModelSpec.from_config(str(world / "base"))
    codec = AdapterCodec(layout=tiny_layout(2, spec=spec), scaling=TokenScaling())
    fitted = TokenGaussian(zoo, ids[:1], codec)
    drawn = fitted.draw(torch.Generator().manual_seed(0), base=spec.id, task_type=None)
    torch.testing.assert_close(
        dense_vector(drawn), dense_vector(zoo.load(ids[0])), atol=1e-3, rtol=1e-2
    )


@pytest.mark.parametrize("block", [1, 3, 64])
def test_inner_products_do_not_depend_on_the_blocks(
    zoo: Zoo, ids: list[str], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_gen.evaluation.distances._BLOCK", block)
    adapters = loaded(zoo, ids)
    wanted = dense(adapters) @ dense(adapters).T
    torch.testing.assert_close(zoo_gram(zoo, ids, ids), wanted, atol=1e-4, rtol=1e-4)
    gram, squares = gram_with_zoo(adapters[:2], zoo, ids)
    torch.testing.assert_close(gram, wanted[:2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(squares, wanted.diagonal(), atol=1e-4, rtol=1e-4)
