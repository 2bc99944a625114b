import json
from pathlib import Path

import pytest
from cli_factories import lora_gen, tiny_adapter, tiny_base

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import add, cosine, norm
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.cli.merge import Method
from lora_gen.weight_space.merge import METHODS


@pytest.fixture
def saved(tmp_path: Path) -> list[Adapter]:
    """Two adapters of one base, saved as `a` and `b`."""
    base = tiny_base(tmp_path / "base")
    adapters = [tiny_adapter(base, rank=1 + seed, seed=seed) for seed in range(2)]
    for name, adapter in zip("ab", adapters, strict=True):
        save_adapter(adapter, tmp_path / name, exact=True)
    return adapters


def test_merge_writes_the_weighted_sum(saved: list[Adapter], tmp_path: Path) -> None:
    result = lora_gen(
        *("merge", tmp_path / "a", tmp_path / "b", "--weights", 0.3, "--weights", -0.7),
        *("--out", tmp_path / "m", "--json"),
    )
    assert json.loads(result.stdout)["relative_error_of_rank"] == 0
    merged, expected = load_adapter(tmp_path / "m"), add(saved, [0.3, -0.7])
    assert cosine(merged, expected) == pytest.approx(1)
    assert norm(merged) == pytest.approx(norm(expected))


def test_merge_says_what_the_rank_left_out(saved: list[Adapter], tmp_path: Path) -> None:
    result = lora_gen(
        *("merge", tmp_path / "a", tmp_path / "b", "--rank", 1, "--out", tmp_path / "m")
    )
    assert result.exit_code == 0, result.stderr
    assert "2 adapters by linear at rank 1, which leaves out" in " ".join(result.stdout.split())


def test_merge_refuses_another_number_of_weights(saved: list[Adapter], tmp_path: Path) -> None:
    result = lora_gen(
        *("merge", tmp_path / "a", tmp_path / "b", "--weights", 1, "--out", tmp_path / "m")
    )
    assert result.exit_code == 2
    assert "`weights` has 1 numbers for 2 adapters" in result.stderr


def test_command_offers_every_method() -> None:
    assert tuple(Method) == METHODS


def test_merge_refuses_weights_beside_examples(saved: list[Adapter], tmp_path: Path) -> None:
    options = ("--examples", tmp_path / "x.csv", "--weights", 1, "--out", tmp_path / "m")
    result = lora_gen("merge", tmp_path / "a", tmp_path / "b", *options)
    assert result.exit_code == 2
    assert "`--examples` is a method of its own." in result.stderr
