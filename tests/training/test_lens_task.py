"""The generator of lenses on a tiny embedding model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import SIZES, StubTextEncoder
from torch.nn.functional import normalize
from training_factories import losses
from transformers import BertConfig, BertModel

from lora_gen.adapter.base_model import resolve_base
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import initial_factors, lens_adapter
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from training import generator_task
from training.behavior_data import BehaviorRecord, write_behaviors
from training.lens_objectives import agreement_loss, similarity_loss
from training.loop import train
from training.recipe import Recipe, parse_recipe

Make = Callable[..., Recipe]
CRITERIA = ("urgency", "tone", "topic")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny BERT with the tokenizer of the real base."""
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("minilm"))
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=tokenizer.vocab_size, num_hidden_layers=1, **sizes)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def world(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lenses")
    records = [
        BehaviorRecord(
            task=name,
            split="unseen_primitive" if name == "topic" else "seen",
            descriptions=(f"by {name}", f"group by {name}"),
            examples=tuple((f"{value} sentence {i}", value) for i in range(4) for value in "ab"),
        )
        for name in CRITERIA
    ]
    write_behaviors(folder / "behaviors.jsonl", records)
    spec = Embedder.from_pretrained(base).spec
    factors = initial_factors(spec, range(3), 2)
    filled = {name: (a, torch.full_like(b, 0.1)) for name, (a, b) in factors.items()}
    with Zoo.open(folder / "zoo", create=True) as zoo:
        for i, name in enumerate(CRITERIA):
            zoo.add(lens_adapter(filled, i, spec), EntryInfo(task=name))
    return folder


@pytest.fixture
def recipe(base: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a recipe of two steps on three criteria; dotted keys change it."""
    stub = type("Stub", (), {"from_pretrained": staticmethod(lambda name: StubTextEncoder())})
    monkeypatch.setattr(generator_task, "TextEncoder", stub)
    data: dict[str, Any] = {
        "output_dir": str(tmp_path / "run"),
        "max_steps": 2,
        "batch_size": 2,
        "optimizer": {"lr": 1e-2},
        "lr_scheduler": {"schedule": "constant"},
        "checkpoint": {"every": 1},
        "tracking": {"log_every": 1, "eval_every": 2},
        "task": {
            "name": "lens_generator",
            "base": str(base),
            "behaviors": str(world / "behaviors.jsonl"),
            "zoo": str(world / "zoo"),
            "cache": str(world / "cache"),
            "validation_split": "unseen_primitive",
            "model": SIZES,
            "objective": {"lines_per_task": 4, "ranks": [1, 2], "flow_weight": 0.5},
        },
    }
    return lambda *overrides: parse_recipe(data, overrides)


@pytest.mark.parametrize("behavior", ["labels", "distill"])
def test_a_generator_of_lenses_trains_and_measures(
    recipe: Make, behavior: str, tmp_path: Path
) -> None:
    assert train(recipe(f"task.objective.behavior={behavior}")) == 2
    assert all(loss == loss for _, loss in losses(tmp_path / "run"))
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "map_seen" in metrics
    assert "map_validation" in metrics
    assert (tmp_path / "run" / "final" / "model_index.json").is_file()


def test_similarities_of_a_turned_space_are_the_same() -> None:
    random = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(2, 6, 8, generator=random), dim=-1)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=random))[0]
    loss = similarity_loss(vectors @ turn, vectors, 0.1)
    torch.testing.assert_close(loss, torch.zeros(2), atol=1e-4, rtol=0)
    assert bool((similarity_loss(vectors.flip(1), vectors, 0.1) > 0.1).all())


def test_the_loss_moves_a_lens_to_the_teachers_similarities() -> None:
    random = torch.Generator().manual_seed(1)
    teacher = torch.nn.functional.normalize(torch.randn(1, 6, 8, generator=random), dim=-1)
    free = torch.randn(1, 6, 8, generator=random, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.05)
    for _ in range(150):
        loss = similarity_loss(torch.nn.functional.normalize(free, dim=-1), teacher, 0.1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05


def test_agreement_is_the_order_of_cosines_and_not_their_spread() -> None:
    random = torch.Generator().manual_seed(2)
    same = (torch.arange(8)[:, None] % 2 == torch.arange(8) % 2).float()[None]
    mixed = torch.randn(1, 8, 6, generator=random)
    apart = torch.eye(6)[:2].repeat(4, 1)[None]
    losses = [
        agreement_loss(normalize(x, dim=-1), same) for x in (apart, apart + 0.2 * mixed, mixed)
    ]
    assert float(losses[0]) == pytest.approx(0, abs=1e-4)
    assert losses[0] < losses[1] < losses[2]
    assert float(agreement_loss(torch.ones(1, 8, 6) / 6**0.5, same)) == pytest.approx(1)
