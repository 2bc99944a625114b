from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import (
    StubTextEncoder,
    base_adapter,
    byte_base,
    task_zoo,
    tiny_denoiser,
)

from lora_gen.adapter.io import save_adapter
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError, ZooError
from lora_gen.evaluation.audit import (
    audit_adapters,
    audit_generator,
    error_overlap,
    group_verdict,
)
from lora_gen.evaluation.baselines.registry import ALL, MULTI_TASK
from lora_gen.evaluation.figures import audit_figure
from lora_gen.evaluation.novelty import THRESHOLDS
from lora_gen.evaluation.statistics import proportion_interval
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    base = byte_base(folder / "base")
    task_zoo(folder / "zoo", base)
    denoiser = tiny_denoiser(trained_bases=(str(folder / "base"),))
    LoraGenPipeline.build(denoiser, text_encoder="stub").save_pretrained(folder / "gen")
    with Zoo.open(folder / "zoo", read_only=True) as zoo:
        save_adapter(zoo.load(sorted(zoo.ids(split="seen"))[0]), folder / "copy")
    save_adapter(base_adapter(base, 77), folder / "new")
    return folder


@pytest.fixture
def of_generator(world: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    return audit_generator(
        zoo=world / "zoo", generator=world / "gen", base=str(world / "base"), split="seen"
    )


def test_copy_and_new_adapter_are_told_apart(world: Path) -> None:
    report = audit_adapters([world / "copy", world / "new"], world / "zoo")
    copy, new = report["adapters"]
    assert "`copy` is a copy of the zoo adapter" in copy["verdict"]
    assert copy["error_overlap"] == 1.0
    assert not any(copy["novel_at"].values())
    assert new["relative"] > 0.5
    assert new["novel_at"]["0.25"]
    assert report["zoo"]["entries"] == 3


def test_adapters_of_two_bases_are_refused(world: Path, tmp_path: Path) -> None:
    other = base_adapter(byte_base(tmp_path / "other"), 5)
    save_adapter(other, tmp_path / "adapter")
    with pytest.raises(ConfigError, match="Audit those of one base at once"):
        audit_adapters([world / "new", tmp_path / "adapter"], world / "zoo")


def test_zoo_of_another_base_is_refused(world: Path, tmp_path: Path) -> None:
    save_adapter(base_adapter(byte_base(tmp_path / "other"), 5), tmp_path / "adapter")
    with pytest.raises(ZooError, match="has no entry of split `seen` for the base"):
        audit_adapters([tmp_path / "adapter"], world / "zoo")


def test_generator_stands_beside_every_baseline(of_generator: Any, tmp_path: Path) -> None:
    baselines = [name for name in ALL if name != MULTI_TASK]
    assert list(of_generator["groups"]) == ["generated", *baselines, "oracle LoRA"]
    nearest = of_generator["groups"]["nearest text"]
    assert nearest["copies"] == 1.0
    assert nearest["relative_distance"] == pytest.approx([0, 0, 0], abs=1e-4)
    assert of_generator["groups"]["oracle LoRA"]["copies"] == 0.0
    for group in of_generator["groups"].values():
        assert list(group["novel_and_performant"]) == [f"{tau:g}" for tau in THRESHOLDS]
    audit_figure(of_generator, tmp_path / "audit.svg")
    assert (tmp_path / "audit.svg").read_text().startswith("<?xml")


def test_split_without_tests_is_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    with pytest.raises(ZooError, match="The zoo has no test pairs of split `unseen_argument`"):
        audit_generator(
            zoo=world / "zoo",
            generator=world / "gen",
            base=str(world / "base"),
            split="unseen_argument",
        )


def test_error_overlap_is_intersection_over_union() -> None:
    one, other = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    assert error_overlap(one, other) == 0.5
    assert error_overlap(~one, other) == 0.0
    assert error_overlap(torch.zeros(3).bool(), torch.zeros(3).bool()) == 1.0


@pytest.mark.parametrize(
    ("own", "soup", "copies", "sentence"),
    [
        (40, 2, 0.0, "The generator makes new adapters that work: 80% of its adapters"),
        (22, 20, 0.0, "The generator is ahead, but not clearly: 44%"),
        (2, 30, 0.0, "The generator is not ahead of simpler ways: 4%"),
        (40, 2, 0.9, "The generator copies: 90% of its adapters are in the zoo already"),
    ],
)
def test_group_verdict_compares_with_the_best_simple_way(
    own: int, soup: int, copies: float, sentence: str
) -> None:
    groups = {
        name: {
            "novel_and_performant": {"1": proportion_interval(count, 50).to_dict()},
            "copies": copies,
        }
        for name, count in (("generated", own), ("soup of 4", soup), ("oracle LoRA", 50))
    }
    assert group_verdict(groups).startswith(sentence)
