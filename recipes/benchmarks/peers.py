"""Other generators' networks at published widths, from their mathematics, with random weights.

Speed does not depend on what was learned, so nothing is trained. Sizes and equations: RPG (Wang et
al., arXiv 2501.11587), Drag-and-Drop LLMs (Liang et al., arXiv 2506.16406), Text-to-LoRA
(Charakorn et al., arXiv 2506.06105). Shapes: N tokens, D token width, L length, H height, W width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from recipes.benchmarks.ours import BASES

_RPG_CHANNELS = (1, 32, 64, 128, 64, 32, 1)
DND_SHAPES = (
    *((128, 384, 384), (128, 200, 300), (128, 100, 256), (256, 50, 200), (512, 50, 200)),
    *((1024, 25, 200), (1024, 10, 200), (2048, 10, 200), (4296, 10, 130)),
)
_DND_KERNEL = 9


class Mamba2(nn.Module):
    """One selective state-space block of Mamba-2 (Dao & Gu, arXiv 2405.21060), scanned in order."""

    def __init__(self, width: int, state: int = 128, head: int = 64) -> None:
        super().__init__()
        self.inner, self.state, self.head = 2 * width, state, head
        self.heads = self.inner // head
        self.input = nn.Linear(width, 2 * self.inner + 2 * state + self.heads, bias=False)
        mixed = self.inner + 2 * state
        self.conv = nn.Conv1d(mixed, mixed, 4, padding=3, groups=mixed)
        self.norm = nn.RMSNorm(self.inner)
        self.output = nn.Linear(self.inner, width, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Tokens that have read those before them, (N, D)."""
        count = len(x_ND)
        gate, mixed, step = self.input(x_ND).split(
            (self.inner, self.inner + 2 * self.state, self.heads), -1
        )
        mixed = nn.functional.silu(self.conv(mixed.mT[None])[0, :, :count].mT)
        value, write, read = mixed.split((self.inner, self.state, self.state), -1)
        step = nn.functional.softplus(step)
        memory = x_ND.new_zeros(self.heads, self.head, self.state)
        rows = []
        for n in range(count):
            kept = torch.exp(-step[n])[:, None, None] * memory
            new = (step[n][:, None] * value[n].view(self.heads, self.head))[..., None] * write[n]
            memory = kept + new
            rows.append((memory @ read[n]).flatten())
        out: Tensor = self.output(self.norm(torch.stack(rows) * nn.functional.silu(gate)))
        return out


class RpgDenoiser(nn.Module):
    """RPG's 1-D convolutional U-Net over one token; each layer is conv((x + c) * t)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        pairs = list(pairwise(_RPG_CHANNELS))
        self.convs = nn.ModuleList(nn.Conv1d(i, o, 7, padding=3) for i, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(o) for _, o in pairs[:-1])
        self.condition = nn.Linear(width, width)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x_ND: Tensor, prototype_ND: Tensor, time_1T: Tensor) -> Tensor:
        """Predicted noise, (N, D)."""
        condition, time = self.condition(prototype_ND)[:, None], self.time(time_1T)[:, None]
        x, kept = x_ND[:, None], []
        for i, conv in enumerate(self.convs):
            x = conv((x + condition) * time)
            if i < len(self.norms):
                x = nn.functional.elu(self.norms[i](x))
            if i < 2:
                kept.append(x)
            elif i in (3, 4):
                x = x + kept.pop()
        return x[:, 0]


class DndLayer(nn.Module):
    """One layer of Drag-and-Drop: convolutions with width, height and length as channels."""

    def __init__(self, before: tuple[int, int, int], after: tuple[int, int, int]) -> None:
        super().__init__()
        pad: dict[str, Any] = {"padding": _DND_KERNEL // 2}
        (l0, h0, w0), (l1, h1, w1) = before, after
        self.norm = nn.LayerNorm([h0, w0])
        self.widths = nn.ModuleList(nn.Conv2d(w0, w1, _DND_KERNEL, **pad) for _ in range(2))
        self.heights = nn.ModuleList(nn.Conv2d(h0, h1, _DND_KERNEL, **pad) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(l0, h1, w1))
        self.length = nn.Conv2d(l0, l1, _DND_KERNEL, **pad)

    def forward(self, x_LHW: Tensor) -> Tensor:
        """The next shape, (L, H, W)."""
        u = self.norm(x_LHW)
        first = self._height(self._width(u, 0), 0)
        second = self._width(self._height(u, 1), 1)
        out: Tensor = self.length((first + torch.tanh(second) + self.bias)[None] / 3)[0]
        return out + x_LHW if out.shape == x_LHW.shape else out

    def _width(self, x_LHW: Tensor, which: int) -> Tensor:
        out: Tensor = self.widths[which](x_LHW.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        return out

    def _height(self, x_LHW: Tensor, which: int) -> Tensor:
        out: Tensor = self.heights[which](x_LHW.permute(1, 0, 2)[None])[0].permute(1, 0, 2)
        return out


class T2lNetwork(nn.Module):
    """Text-to-LoRA (L): embeddings, an MLP mixer, and one bias-free head for each module type."""

    def __init__(self, outputs: dict[str, int], layers: int, latent: int, head: int) -> None:
        super().__init__()
        self.text = nn.Sequential(nn.Linear(1024, latent // 2), nn.LayerNorm(latent // 2))
        self.layer = nn.Embedding(layers, latent // 4)
        self.module = nn.Embedding(len(outputs), latent // 4)
        self.mixer = _mlp(latent, latent)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(latent), _mlp(latent, latent)) for _ in range(2)
        )
        self.last = nn.Sequential(nn.LayerNorm(latent), _mlp(latent, head), nn.SiLU())
        self.heads = nn.ModuleList(nn.Linear(head, size, bias=False) for size in outputs.values())

    def forward(self, text_1C: Tensor) -> list[Tensor]:
        """Factors of each module type in all layers."""
        layers = self.layer.weight
        text = self.text(text_1C).expand(len(layers), -1)
        made = []
        for i, head in enumerate(self.heads):
            module = self.module.weight[i].expand(len(layers), -1)
            x = self.mixer(torch.cat([text, layers, module], -1))
            for block in self.blocks:
                x = x + block(x)
            made.append(head(self.last(x)))
        return made


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, out))


def rpg(width: int, values: int, share: int, device: str = "cpu") -> Callable[[], dict[str, Any]]:
    """One denoising step on every `share`-th token, and the prototypes of those tokens.

    Tokens are batch items and steps are alike, so the whole is this times `share` times the steps.
    """
    torch.manual_seed(0)
    tokens = math.ceil(values / width)
    part = math.ceil(tokens / share)
    recurrence = nn.Sequential(Mamba2(width), Mamba2(width)).to(device).eval()
    denoiser = RpgDenoiser(width).to(device).eval()
    code_ND, time_1T = torch.randn(part, width, device=device), torch.randn(1, 256, device=device)

    @torch.no_grad()
    def work() -> dict[str, Any]:
        started, began = time.perf_counter(), time.process_time()
        with torch.autocast(device, dtype=torch.bfloat16):
            prototype_ND = recurrence(code_ND).float()
            once = {
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - began,
            }
            denoiser(torch.randn_like(code_ND), prototype_ND, time_1T)
        return _facts(nn.ModuleList([recurrence, denoiser]), part * width) | {
            "once": once,
            "scale": tokens / part,
            "giga_operations": round(2e-9 * part * width * 143_808, 1),
        }

    return work


def dnd(device: str = "cpu") -> Callable[[], dict[str, Any]]:
    """One whole pass at the width published for Qwen2.5-0.5B, rank 8: 4.4 M values."""
    with torch.device("meta"):
        pairs = pairwise(DND_SHAPES)
        network = nn.Sequential(*(DndLayer(a, b) for a, b in pairs))
    network = network.to(torch.bfloat16).to_empty(device=device).eval()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.01, 0.01)
    prompts_LHW = torch.randn(DND_SHAPES[0], dtype=torch.bfloat16, device=device)

    @torch.no_grad()
    def work() -> dict[str, Any]:
        tiles = network(prompts_LHW)
        return _facts(network, len(tiles) * 8 * 128)

    return work


def t2l(
    base: str, rank: int, latent: int = 128, head: int = 512, device: str = "cpu"
) -> Callable[[], dict[str, Any]]:
    """One whole pass for every linear module of a base, at the widths published for Mistral-7B."""
    spec = BaseModelSpec.from_config(BASES / base)
    names = select_targets(spec, "all-linear")
    sizes = {
        name.rsplit(".", 1)[-1]: rank
        * (spec.modules[name].in_features + spec.modules[name].out_features)
        for name in names
    }
    torch.manual_seed(0)
    network = T2lNetwork(sizes, spec.num_layers, latent, head).to(device).eval()
    text_1C = torch.randn(1, 1024, device=device)

    @torch.no_grad()
    def work() -> dict[str, Any]:
        with torch.autocast(device, dtype=torch.bfloat16):
            made = network(text_1C)
        return _facts(network, sum(part.numel() for part in made))

    return work


def _facts(network: nn.Module, values: int) -> dict[str, Any]:
    return {"values": values, "generator_parameters": sum(p.numel() for p in network.parameters())}
