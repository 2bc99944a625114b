from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_factories import merged
from generator_factories import (
    WIDTH,
    TrueDenoiser,
    base_adapter,
    byte_base,
    tiny_condition,
    tiny_denoiser,
    tiny_layout,
)
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.codec.codec import AdapterCodec
from lora_gen.conditioning.chat import IGNORE, Lines, load_causal_lm
from training.objectives import (
    distillation_loss,
    flow_matching_loss,
    grouped_label_losses,
    label_loss,
    matching_loss,
    sample_on_path,
)

LAYOUT = tiny_layout(2)
PAIRS = [("ab", "AB"), ("Maria Lopez", "Lopez, Maria"), ("cd", "c"), ("e", "a long answer")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_base(tmp_path_factory.mktemp("base"))


def _seed(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tokens(rows: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(rows, LAYOUT.num_tokens, WIDTH + 1, generator=_seed(seed))


def _mask() -> Tensor:
    return nn.functional.pad(LAYOUT.value_mask, (0, 1), value=1.0)


def _lines(base: Path) -> tuple[Any, Lines]:
    model, chat = load_causal_lm(base)
    return model, chat.pack([chat.line(*pair) for pair in PAIRS])


def _true(data: Tensor) -> tuple[Any, Any]:
    denoiser = tiny_denoiser(kind=TrueDenoiser)
    denoiser.data = data
    return denoiser, denoiser.prototype(tiny_condition(), LAYOUT)


def test_flow_matching_loss_of_a_true_denoiser_is_zero() -> None:
    denoiser, prototype = _true(_tokens())
    loss = flow_matching_loss(denoiser, prototype, _tokens(), _mask(), _seed())
    assert float(loss) == 0.0


def test_flow_matching_loss_is_the_mean_square_error_of_the_weights_alone() -> None:
    denoiser, prototype = _true(_tokens() + 3 + 100 * (1 - _mask()))
    loss = flow_matching_loss(denoiser, prototype, _tokens(), _mask(), _seed())
    assert float(loss) == pytest.approx(9.0, rel=1e-4)


def test_flow_matching_loss_depends_on_its_generator_alone() -> None:
    denoiser = tiny_denoiser()
    prototype = denoiser.prototype(tiny_condition(), LAYOUT)
    first, second, other = (
        flow_matching_loss(denoiser, prototype, _tokens(), _mask(), _seed(seed))
        for seed in (1, 1, 2)
    )
    assert first == second != other
    assert bool(first.isfinite())


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_sample_on_path_of_a_true_denoiser_is_the_data(stop: int) -> None:
    denoiser, prototype = _true(_tokens())
    found = sample_on_path(denoiser, prototype, _tokens(seed=1), steps=4, stop=stop)
    torch.testing.assert_close(found, _tokens())


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_sample_on_path_has_gradients_through_its_last_step_only(stop: int) -> None:
    denoiser, calls = tiny_denoiser(), list[tuple[float, bool]]()
    plain = denoiser.clean

    def watched(noisy: Tensor, level: Tensor, prototype: Any) -> Tensor:
        calls.append((round(float(level[0]), 3), torch.is_grad_enabled()))
        return plain(noisy, level, prototype)

    denoiser.clean = watched
    prototype = denoiser.prototype(tiny_condition(), LAYOUT)
    noise = _tokens(seed=1).requires_grad_()
    found = sample_on_path(denoiser, prototype, noise, steps=4, stop=stop)
    levels = [1.0, 0.75, 0.5, 0.25][: stop + 1]
    assert calls == [(level, level == levels[-1]) for level in levels]
    assert found.requires_grad


def test_behavior_reaches_every_weight_of_the_network_and_none_of_the_base(base: Path) -> None:
    model, lines = _lines(base)
    codec = _codec(base)
    denoiser = tiny_denoiser()
    prototype = denoiser.prototype(tiny_condition(), codec.layout)
    noise = torch.randn(2, codec.layout.num_tokens, WIDTH + 1, generator=_seed())
    tokens = sample_on_path(denoiser, prototype, noise, steps=4, stop=2)
    label_loss(model, codec.factors(tokens), lines, 2).backward()
    still = {name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()}
    # a null token is used only where its part is missing
    assert still <= {"condition_encoder.null"}
    assert all(p.grad is None for p in model.parameters())


def _codec(base: Path) -> AdapterCodec:
    spec = BaseModelSpec.from_config(str(base))
    layout = tiny_layout(2, spec=spec)
    return AdapterCodec(layout=layout, scaling=tiny_denoiser().token_scaling)


def test_label_loss_is_the_mean_over_adapters_of_their_own_means(base: Path) -> None:
    model, lines = _lines(base)
    adapters = [base_adapter(base, seed) for seed in range(2)]
    means = []
    for row, adapter in enumerate(adapters):
        truth, part = merged(load_causal_lm(base)[0], adapter), slice(2 * row, 2 * row + 2)
        logits = truth(input_ids=lines.input_ids[part]).logits[:, :-1].flatten(0, 1)
        targets = lines.labels[part, 1:].flatten()
        means.append(nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE))
    found = label_loss(model, stack_adapters(adapters), lines, 2)
    torch.testing.assert_close(found, torch.stack(means).mean(), atol=1e-4, rtol=1e-4)


def test_distillation_loss_of_the_teacher_itself_is_zero_and_else_positive(base: Path) -> None:
    model, lines = _lines(base)
    teacher, student = (
        stack_adapters([base_adapter(base, seed), base_adapter(base, seed + 1)]) for seed in (0, 5)
    )
    same = distillation_loss(model, teacher, teacher, lines, 2)
    torch.testing.assert_close(same, torch.zeros(()), atol=1e-6, rtol=0)
    assert float(distillation_loss(model, student, teacher, lines, 2)) > 1e-3


def test_distillation_loss_teaches_the_student_alone(base: Path) -> None:
    model, lines = _lines(base)
    teacher, student = (stack_adapters([base_adapter(base, seed)] * 2) for seed in (0, 1))
    for factors in (teacher, student):
        for pair in factors.values():
            for factor in pair:
                factor.requires_grad_()
    distillation_loss(model, student, teacher, lines, 2).backward()
    assert all(f.grad is None for pair in teacher.values() for f in pair)
    assert all(f.grad is not None and f.grad.any() for pair in student.values() for f in pair)


def test_grouped_label_losses_average_to_the_label_loss(base: Path) -> None:
    model, lines = _lines(base)
    adapters = [base_adapter(base, seed) for seed in (0, 1)]
    factors = stack_adapters(adapters)
    groups = grouped_label_losses(model, factors, lines, 2)
    assert float(groups.mean()) == pytest.approx(float(label_loss(model, factors, lines, 2)))
    single = grouped_label_losses(model, factors, lines, 4)
    alone = label_loss(model, stack_adapters(adapters[:1]), _first(lines), 1)
    assert float(single[0]) == pytest.approx(float(alone), rel=1e-4)


def _first(lines: Lines) -> Lines:
    return Lines(input_ids=lines.input_ids[:1], labels=lines.labels[:1])


def test_matching_loss_is_that_of_the_cheapest_matching() -> None:
    losses = torch.rand(5, 4, 4, generator=_seed())
    rows, columns = zip(*(linear_sum_assignment(one.numpy()) for one in losses), strict=True)
    wanted = [losses[i][r, c].mean() for i, (r, c) in enumerate(zip(rows, columns, strict=True))]
    assert float(matching_loss(losses)) == pytest.approx(float(torch.stack(wanted).mean()))


def test_matching_loss_gives_every_candidate_a_reading_of_its_own() -> None:
    losses = torch.tensor([[[0.0, 5.0], [0.1, 9.0]]], requires_grad=True)
    matching_loss(losses).backward()
    assert losses.grad is not None
    assert (losses.grad != 0).tolist() == [[[False, True], [True, False]]]
