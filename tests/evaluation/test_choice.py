from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generator_factories import base_adapter, byte_base

from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import ConditionError
from lora_gen.evaluation.choice import best_by_examples, example_losses
from training.objectives import label_loss

EXAMPLES = [("ab", "AB"), ("Maria Lopez", "Lopez, Maria")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_base(tmp_path_factory.mktemp("base"))


def test_example_losses_are_those_that_training_minimizes(base: Path) -> None:
    model, chat = load_causal_lm(base)
    adapters = [base_adapter(base, seed) for seed in range(3)]
    found = example_losses(model, chat, adapters, EXAMPLES)
    lines = chat.pack([chat.line(*pair) for pair in EXAMPLES])
    wanted = [float(label_loss(model, stack_adapters([a]), lines, 1)) for a in adapters]
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-4, rtol=1e-4)


def test_best_candidate_has_the_lowest_loss_wherever_it_stands(base: Path) -> None:
    model, chat = load_causal_lm(base)
    adapters = [base_adapter(base, seed) for seed in range(4)]
    order = best_by_examples(model, chat, adapters, EXAMPLES)
    losses = example_losses(model, chat, adapters, EXAMPLES)
    assert losses[order].tolist() == sorted(losses.tolist())
    turned = best_by_examples(model, chat, adapters[::-1], EXAMPLES)
    assert [3 - i for i in turned] == order


def test_choice_without_examples_is_refused(base: Path) -> None:
    model, chat = load_causal_lm(base)
    with pytest.raises(ConditionError, match="`examples` is empty, so no candidate can be chosen"):
        example_losses(model, chat, [base_adapter(base)], [])
