"""A sampler whose condition, steps and noise scheduler are known: what is fixed is computed once.

The noise scheduler's steps are affine in the noisy tokens x and in the predicted clean tokens c:
x' = a x + b c. Both ends of the denoiser are linear, so x needs no place between the steps: the
network carries u = W_in x, where W_in c is one H x H product of its last states. A condition of K
tokens makes each attention two products with (heads * K) columns. Shapes: n tokens of a window,
S = heads * K, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from lora_gen.models.blocks import CrossAttention, Modulation
from lora_gen.models.denoiser import DenoiserBlock
from lora_gen.models.recurrent_denoiser import Prototype, RecurrentDenoiser


@dataclass(frozen=True, kw_only=True)
class SamplingLine:
    """The steps of a noise scheduler, as numbers."""

    levels: tuple[float, ...]
    """Noise level of each step."""
    steps: tuple[tuple[float, float], ...]
    """(a, b) of each step."""


class FoldedSampler:
    """All steps of one adapter's windows, the same as step by step but for rounding.

    Args:
        network: The denoiser, in evaluation mode.
        prototypes: Of one condition, or of it and the null condition; their states are not used.
        line: The noise scheduler's steps.
        guidance: Weight of the first condition against the second.
        dtype: Of weights and products; norms, sums and softmax are in float32 at least.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: RecurrentDenoiser,
        prototypes: Sequence[Prototype],
        line: SamplingLine,
        *,
        guidance: float = 1.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        inner, self.line, self.guidance, self.dtype = network.denoiser, line, guidance, dtype
        level_TH = network.level(torch.tensor(line.levels, device=network.device))
        self.input, self.norm, self.output = inner.input, inner.norm, inner.output
        self.conditions = [
            [_Block(cast(DenoiserBlock, b), level_TH, prototype, dtype) for b in inner.blocks]
            for prototype in prototypes
        ]
        self.w_in, self.w_out = inner.input.weight.to(dtype), inner.output.weight.to(dtype)
        self.w_through = (inner.input.weight @ inner.output.weight).to(dtype)
        self.b_through = inner.input.weight @ inner.output.bias

    @torch.no_grad()
    def __call__(self, noise_nD: Tensor, states: Sequence[Tensor]) -> Tensor:
        """Clean tokens (n, D) of a window, from its noise and its states (n, H), by condition."""
        starts = [state_nH + self.input.bias for state_nH in states]
        u_nH = linear(noise_nD.to(self.dtype), self.w_in).to(self.input.bias.dtype)
        read_nH = torch.zeros_like(u_nH)
        from_noise, from_bias = 1.0, 0.0
        for i, (a, b) in enumerate(self.line.steps):
            last_nH = self._last(i, u_nH, starts)
            through_nH = linear(last_nH.to(self.dtype), self.w_through)
            u_nH = a * u_nH + b * (through_nH + self.b_through)
            read_nH = a * read_nH + b * last_nH
            from_noise, from_bias = a * from_noise, a * from_bias + b
        tokens_nD = linear(read_nH.to(self.dtype), self.w_out).to(u_nH.dtype)
        tokens_nD = tokens_nD + from_bias * self.output.bias
        return tokens_nD + from_noise * noise_nD if from_noise else tokens_nD

    def _last(self, step: int, u_nH: Tensor, starts: Sequence[Tensor]) -> Tensor:
        """States before the output layer, (n, H), guided."""
        found = []
        for blocks, start_nH in zip(self.conditions, starts, strict=True):
            x_nH = u_nH + start_nH
            for block in blocks:
                x_nH = block(x_nH, step)
            found.append(cast(Tensor, self.norm(x_nH)))
        if len(found) == 1:
            return found[0]
        return torch.lerp(found[1], found[0], self.guidance)


class FoldedAttention:
    """Attention to a memory that does not change.

    With at most H / heads tokens of memory it is two small products instead of two large ones.
    """

    def __init__(self, attention: CrossAttention, prototype: Prototype, dtype: torch.dtype) -> None:
        memory_KH = prototype.memory[0][prototype.mask[0]]
        self.heads, self.dtype, self.tokens = attention.num_heads, dtype, len(memory_KH)
        width = memory_KH.shape[1]
        shape = (self.tokens, self.heads, width // self.heads)
        key_KNd, value_KNd = (
            part.view(shape) for part in attention.key_value(memory_KH).chunk(2, -1)
        )
        key_KNd = key_KNd / math.sqrt(shape[-1])
        query, output = attention.query, attention.output
        self.b_out = output.bias
        self.is_small = self.heads * self.tokens <= width
        if self.is_small:
            query_NdH, bias_Nd = query.weight.view(*shape[1:], width), query.bias.view(shape[1:])
            output_HNd = output.weight.view(width, *shape[1:])
            w_query = torch.einsum("knd,ndh->knh", key_KNd, query_NdH).flatten(0, 1)
            b_query = torch.einsum("knd,nd->kn", key_KNd, bias_Nd).flatten()[:, None]
            w_out = torch.einsum("knd,hnd->hkn", value_KNd, output_HNd).flatten(1)
        else:
            w_query, b_query, w_out = query.weight, query.bias, output.weight
            self.key, self.value = key_KNd.permute(1, 2, 0).to(dtype), value_KNd.to(dtype)
        self.w_query, self.b_query, self.w_out = (t.to(dtype) for t in (w_query, b_query, w_out))

    def __call__(self, x_nH: Tensor) -> Tensor:
        """What each token read, (n, H)."""
        count, x_nH = len(x_nH), x_nH.to(self.dtype)
        if self.is_small:
            # Tokens last: a softmax over few rows of many columns is ten times as fast.
            scores_Sn = torch.addmm(self.b_query, self.w_query, x_nH.mT)
            weights_Sn = self._softmax(scores_Sn.view(self.tokens, -1), 0).view(-1, count)
            return (weights_Sn.mT @ self.w_out.mT) + self.b_out
        query_nNd = linear(x_nH, self.w_query, self.b_query).view(count, self.heads, -1)
        weights_NnK = self._softmax(query_nNd.transpose(0, 1) @ self.key, -1)
        read_Nnd = weights_NnK @ self.value.transpose(0, 1)
        return linear(read_Nnd.transpose(0, 1).flatten(1), self.w_out) + self.b_out

    def _softmax(self, scores: Tensor, dim: int) -> Tensor:
        return scores.to(self.b_out.dtype).softmax(dim).to(self.dtype)


class _Modulation:
    """Shift and scale of each step as the weights of a norm."""

    def __init__(self, modulation: Modulation, level_TH: Tensor) -> None:
        shift_TH, scale_TH, gate_TH = modulation.net(level_TH).chunk(3, -1)
        self.shift, self.scale, self.gate = shift_TH, 1 + scale_TH, 1 + gate_TH
        self.epsilon = modulation.norm.eps

    def __call__(self, x_nH: Tensor, step: int) -> Tensor:
        return layer_norm(x_nH, x_nH.shape[1:], self.scale[step], self.shift[step], self.epsilon)


class _Block:
    """One block of the denoiser at all steps."""

    def __init__(
        self, block: DenoiserBlock, level_TH: Tensor, prototype: Prototype, dtype: torch.dtype
    ) -> None:
        self.first, self.second = (
            _Modulation(cast(Modulation, m), level_TH) for m in block.modulations
        )
        self.attention = FoldedAttention(block.attention, prototype, dtype)
        self.dtype = dtype
        up, _, down = block.feed_forward
        self.up, self.down = _weights(up, dtype), _weights(down, dtype)

    def __call__(self, x_nH: Tensor, step: int) -> Tensor:
        read_nH = self.attention(self.first(x_nH, step))
        x_nH = torch.addcmul(x_nH, self.first.gate[step], read_nH)
        hidden = linear(self.second(x_nH, step).to(self.dtype), *self.up)
        thought_nH = linear(nn.functional.silu(hidden, inplace=True), *self.down)
        return torch.addcmul(x_nH, self.second.gate[step], thought_nH.to(x_nH.dtype))


def _weights(layer: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear layer."""
    weight, bias = layer.parameters()
    return weight.to(dtype), bias.to(dtype)
