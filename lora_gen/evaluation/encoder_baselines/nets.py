"""Published readers of LoRA weights, each in the size of this world and from its mathematics.

All take the factors of every module, zero-padded to one rank, and give one vector. Shapes: B
adapters, R rank, O and I sides of a module, P probes, H hidden width, E width of the vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Module -> (A (B, R, I), B (B, O, R)) with the scaling folded into B."""
Shapes = Mapping[str, tuple[int, int]]
"""Module -> (O, I)."""


class DenseSketchMLP(nn.Module):
    """MLP(U V^T) of Learning on LoRAs (arXiv 2410.04207): a perceptron over the product.

    The product is seen through fixed random directions, since whole products of 28 modules do not
    fit a perceptron.
    """

    def __init__(self, shapes: Shapes, embed_dim: int, *, sketch: int = 12, hidden: int = 192):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.sides = {
            name: (
                torch.randn(o, sketch, generator=generator) / sketch**0.5,
                torch.randn(i, sketch, generator=generator) / sketch**0.5,
            )
            for name, (o, i) in shapes.items()
        }
        width = len(shapes) * sketch**2
        self.net = nn.Sequential(
            nn.LayerNorm(width),
            nn.Dropout(0.2),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Linear(hidden, embed_dim),
        )

    def forward(self, factors: Factors) -> Tensor:
        """Vectors, (B, E)."""
        parts = [
            ((left.mT @ factors[name][1]) @ (factors[name][0] @ right)).flatten(1)
            for name, (left, right) in self.sides.items()
        ]
        found: Tensor = self.net(torch.cat(parts, 1))
        return found


class GLNet(nn.Module):
    """GL-net (arXiv 2410.04207): equivariant layers on U and V, invariant head on the product.

    A linear map of rows commutes with the gauge; so does a gate that depends on the product alone.
    """

    def __init__(self, shapes: Shapes, embed_dim: int, *, width: int = 12, hidden: int = 192):
        super().__init__()
        self.names = tuple(shapes)
        self.left = nn.ParameterList(
            nn.Parameter(torch.randn(width, o) / o**0.5) for o, _ in shapes.values()
        )
        self.right = nn.ParameterList(
            nn.Parameter(torch.randn(width, i) / i**0.5) for _, i in shapes.values()
        )
        self.mix = nn.ParameterList(
            nn.Parameter(torch.randn(2, width, width) / width**0.5) for _ in shapes
        )
        total = len(shapes) * width**2
        self.net = nn.Sequential(
            nn.LayerNorm(total),
            nn.Dropout(0.2),
            nn.Linear(total, hidden),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Linear(hidden, embed_dim),
        )

    def forward(self, factors: Factors) -> Tensor:
        """Vectors, (B, E)."""
        parts = []
        for n, name in enumerate(self.names):
            a_BRI, b_BOR = factors[name]
            u_BHR, v_BHR = self.left[n] @ b_BOR, self.right[n] @ a_BRI.mT
            product_BHH = _standard(u_BHR @ v_BHR.mT)
            u_BHR = self.mix[n][0] @ (u_BHR * product_BHH.mean(2, keepdim=True).sigmoid())
            v_BHR = self.mix[n][1] @ (v_BHR * product_BHH.mT.mean(2, keepdim=True).sigmoid())
            parts.append(_standard(u_BHR @ v_BHR.mT).flatten(1))
        found: Tensor = self.net(torch.cat(parts, 1))
        return found


class DirectionTokens(nn.Module):
    """Weight2Token (arXiv 2603.15990): a token for each singular direction of each module."""

    def __init__(self, shapes: Shapes, embed_dim: int, *, hidden: int = 48):
        super().__init__()
        self.names = tuple(shapes)
        self.left = nn.ModuleList(nn.Linear(o, hidden) for o, _ in shapes.values())
        self.right = nn.ModuleList(nn.Linear(i, hidden) for _, i in shapes.values())
        self.fuse = nn.Sequential(nn.ReLU(), nn.Linear(2 * hidden, hidden))
        self.film = nn.Sequential(nn.Linear(1, hidden), nn.GELU(), nn.Linear(hidden, 2 * hidden))
        self.strength = nn.Parameter(torch.zeros(()))
        self.ranks = nn.TransformerEncoderLayer(hidden, 4, 2 * hidden, 0.1, batch_first=True)
        self.place = nn.Parameter(torch.randn(len(shapes), hidden) * 0.02)
        self.modules_layer = nn.TransformerEncoderLayer(
            hidden, 4, 2 * hidden, 0.1, batch_first=True
        )
        self.score = nn.Linear(hidden, 1)
        self.head = nn.Linear(hidden, embed_dim)

    def forward(self, factors: Factors) -> Tensor:
        """Vectors, (B, E)."""
        pooled = []
        for n, name in enumerate(self.names):
            u_BRO, sigma_BR, v_BRI = singular_directions(*factors[name])
            token_BRH = self.fuse(torch.cat([self.left[n](u_BRO), self.right[n](v_BRI)], -1))
            log_BR = (1 + sigma_BR).log()
            z_BR = (log_BR - log_BR.mean(1, keepdim=True)) / (log_BR.std(1, keepdim=True) + 1e-6)
            scale, shift = self.film(z_BR[..., None]).chunk(2, -1)
            token_BRH = token_BRH * (1 + self.strength * scale.tanh()) + self.strength * shift
            token_BRH = self.ranks(token_BRH)
            weight_BR1 = (self.score(token_BRH) + 0.5 * log_BR[..., None]).softmax(1)
            pooled.append((token_BRH * weight_BR1).sum(1) + self.place[n])
        x_BNH = self.modules_layer(torch.stack(pooled, 1))
        found: Tensor = self.head((x_BNH * self.score(x_BNH).softmax(1)).sum(1))
        return found


class LayerProbes(nn.Module):
    """ProbeX (arXiv 2410.13569) and MVProbe (arXiv 2605.23410): responses to learned probes.

    Args:
        shapes: The modules that are read; ProbeX reads one.
        embed_dim: Width E.
        views: 1 is X U alone; 4 adds the transposed and the two second-order views.
        probes: P of each view.
        hidden: Width each response is projected to.
    """

    def __init__(
        self, shapes: Shapes, embed_dim: int, *, views: int, probes: int = 24, hidden: int = 24
    ):
        super().__init__()
        self.names, self.views = tuple(shapes), views
        self.probes, self.project, heads = nn.ParameterList(), nn.ModuleList(), []
        for o, i in shapes.values():
            # X U, X^T U, X X^T U, X^T X U: width of what goes in, of what comes out.
            for inner, outer in ((i, o), (o, i), (o, o), (i, i))[:views]:
                self.probes.append(nn.Parameter(torch.randn(inner, probes) / inner**0.5))
                self.project.append(nn.Linear(outer, hidden))
            heads.append(nn.Linear(views * probes * hidden, embed_dim))
        self.heads = nn.ModuleList(heads)

    def forward(self, factors: Factors) -> Tensor:
        """Vectors, (B, E): the mean over modules."""
        total = 0
        for n, name in enumerate(self.names):
            a_BRI, b_BOR = factors[name]
            parts = []
            for view in range(self.views):
                at = n * self.views + view
                response = _standard(_respond(view, a_BRI, b_BOR, self.probes[at]))
                parts.append(self.project[at](response.mT).relu().flatten(1))
            total = total + self.heads[n](torch.cat(parts, 1))
        return total / len(self.names)  # type: ignore[return-value]


def _respond(view: int, a_BRI: Tensor, b_BOR: Tensor, u: Tensor) -> Tensor:
    """One of the four responses of X = B A: X U, X^T U, X X^T U, X^T X U."""
    if view == 0:
        return b_BOR @ (a_BRI @ u)
    if view == 1:
        return a_BRI.mT @ (b_BOR.mT @ u)
    if view == 2:
        return b_BOR @ (a_BRI @ (a_BRI.mT @ (b_BOR.mT @ u)))
    return a_BRI.mT @ (b_BOR.mT @ (b_BOR @ (a_BRI @ u)))


def singular_directions(a_BRI: Tensor, b_BOR: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left directions (B, R, O), singular values and right directions (B, R, I) of B A.

    The sign is that of the largest entry of the left one, as Weight2Token fixes it.
    """
    q_BOR, left_BRR = torch.linalg.qr(b_BOR)
    p_BIR, right_BRR = torch.linalg.qr(a_BRI.mT)
    u_BRR, sigma_BR, vh_BRR = torch.linalg.svd(left_BRR @ right_BRR.mT)
    u_BRO, v_BRI = (q_BOR @ u_BRR).mT, vh_BRR @ p_BIR.mT
    sign_BR1 = u_BRO.gather(2, u_BRO.abs().argmax(2, keepdim=True)).sign()
    return u_BRO * sign_BR1, sigma_BR, v_BRI * sign_BR1


def _standard(x: Tensor) -> Tensor:
    """Zero mean and unit spread of each sample."""
    flat = x.flatten(1)
    mean, std = flat.mean(1)[:, None, None], flat.std(1)[:, None, None]
    return (x - mean) / (std + 1e-12)
