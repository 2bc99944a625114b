"""What is computed once for all windows: the same tokens as step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from generator_factories import row_of, tiny_condition, tiny_denoiser, tiny_layout
from torch import Tensor

from lora_gen.models.blocks import CrossAttention
from lora_gen.models.folded import FoldedAttention, FoldedSampler
from lora_gen.models.recurrent_denoiser import Prototype
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.pipeline_stream import sampling_line


def _world(steps: int, scheduler: Any, guidance: float) -> tuple[Any, list[Prototype], Tensor]:
    network, layout = tiny_denoiser().requires_grad_(False), tiny_layout()
    condition = row_of(tiny_condition(), 0)
    prototypes = [network.prototype(c, layout) for c in (condition, condition.null())]
    noise_1nD = torch.randn(1, layout.num_tokens, layout.width + 1)
    return network, prototypes[: 1 if guidance == 1 else 2], noise_1nD


@pytest.mark.parametrize("options", [{}, {"shift": 3.0}, {"use_karras_sigmas": True}])
@pytest.mark.parametrize(("steps", "guidance"), [(1, 1.0), (4, 1.0), (4, 2.5), (20, 1.0)])
def test_folded_sampler_is_the_sampler(
    steps: int, guidance: float, options: dict[str, Any]
) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(**options)
    network, prototypes, noise_1nD = _world(steps, scheduler, guidance)
    line = sampling_line(scheduler, steps)
    assert line is not None
    folded = FoldedSampler(network, prototypes, line, guidance=guidance, dtype=torch.float32)
    found_nD = folded(noise_1nD[0], [each.states[0] for each in prototypes])
    plain = LoraGenPipeline.build(network)
    plain.scheduler = scheduler
    plain.set_progress_bar_config(disable=True)
    with torch.no_grad():
        tokens_1nD = plain._sample(prototypes, noise_1nD, steps, guidance, None, None, start=None)
    torch.testing.assert_close(found_nD, tokens_1nD[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tokens", [1, 2, 4, 9])
def test_folded_attention_is_the_attention(tokens: int) -> None:
    torch.manual_seed(0)
    attention, x_nH = CrossAttention(8, 2).double(), torch.randn(5, 8).double()
    memory_1KH = torch.randn(1, tokens + 1, 8).double()
    mask_1K = torch.arange(tokens + 1)[None] < tokens
    prototype = Prototype(states=x_nH[None], memory=memory_1KH, mask=mask_1K)
    folded = FoldedAttention(attention, prototype, torch.float64)
    assert folded.is_small == (tokens <= 4)
    expected = attention(x_nH[None], memory_1KH, mask_1K)[0]
    torch.testing.assert_close(folded(x_nH), expected)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchHeunDiscreteScheduler(),
        FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
    ],
)
def test_scheduler_that_remembers_or_draws_has_no_line(scheduler: Any) -> None:
    assert sampling_line(scheduler, 4) is None
