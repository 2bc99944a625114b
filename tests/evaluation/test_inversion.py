from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generator_factories import SIZES, StubTextEncoder, byte_base

from lora_gen.adapter.algebra import add, norm
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConditionError
from lora_gen.evaluation.inversion import invert, nearest_words, reworded
from lora_gen.models.recurrent_denoiser import RecurrentDenoiser
from lora_gen.pipeline import LoraGenPipeline

EXAMPLES = [("ab", "AB"), ("cd", "CD"), ("xyz", "XYZ")]


class World:
    """A tiny base and a generator for it."""

    def __init__(self, folder: Path) -> None:
        name = str(byte_base(folder / "base"))
        self.base = load_causal_lm(name)
        self.spec = BaseModelSpec.from_config(name)
        torch.manual_seed(0)
        denoiser = RecurrentDenoiser(
            token_width=self.spec.hidden_size,
            text_dim=StubTextEncoder().width,
            trained_bases=(self.spec.id,),
            **SIZES,
        )
        self.pipe = LoraGenPipeline.build(denoiser.eval())
        self.pipe.set_progress_bar_config(disable=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("inversion"))


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())


def test_words_are_ordered_by_how_likely_they_make_the_answers(world: World):
    texts = ["upper", "lower", "reverse it"]
    found = nearest_words(world.pipe, world.base, texts, EXAMPLES, spec=world.spec)
    assert sorted(text for text, _ in found) == sorted(texts)
    assert [loss for _, loss in found] == sorted(loss for _, loss in found)


def test_fitted_states_make_the_answers_likelier_and_leave_the_generator_alone(world: World):
    before = [p.clone() for p in world.pipe.denoiser.parameters()]
    done = invert(world.pipe, world.base, "upper", EXAMPLES, spec=world.spec, rank=2, steps=12)
    assert done.losses[-1] < done.losses[0]
    assert done.adapter.max_rank == 2
    after = world.pipe.denoiser.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_same_words_change_nothing(world: World):
    adapter = world.pipe("upper", base=world.spec).adapters[0]
    same = reworded(world.pipe, adapter, "lower", "lower", spec=world.spec).adapter
    assert norm(add([same, adapter], [1.0, -1.0])) < 1e-4 * norm(adapter)


def test_an_adapter_that_is_the_old_words_becomes_that_of_the_new(world: World):
    made = [
        world.pipe(t, base=world.spec, generator=torch.Generator().manual_seed(0)).adapters[0]
        for t in ("upper", "lower")
    ]
    moved = reworded(world.pipe, made[0], "upper", "lower", spec=world.spec).adapter
    assert norm(add([moved, made[1]], [1.0, -1.0])) < 1e-4 * norm(made[1])


def test_inversion_refuses_what_says_nothing(world: World):
    with pytest.raises(ConditionError, match=r"There is no candidate description"):
        nearest_words(world.pipe, world.base, [], EXAMPLES, spec=world.spec)
    with pytest.raises(ConditionError, match=r"`examples` is empty, so nothing says what"):
        invert(world.pipe, world.base, "upper", [], spec=world.spec)
