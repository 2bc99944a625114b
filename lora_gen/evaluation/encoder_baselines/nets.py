"""Published readers of LoRA weights, each in the size of this world and from its mathematics.

All take the factors of every module, zero-padded to one rank, and give one vector. Shapes: B
adapters, R rank, O and I sides of a module, P probes, H hidden width, E width of the vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    """Weight2Token (arXiv 2603.15990): a token for each singular direction of each module.

    Takes canonical factors, whose columns are the singular directions (`canonical_factors`).
    """

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
        tokens, sizes = [], []
        for n, name in enumerate(self.names):
            u_BRO, sigma_BR, v_BRI = directions_of(*factors[name])
            tokens.append(self.fuse(torch.cat([self.left[n](u_BRO), self.right[n](v_BRI)], -1)))
            sizes.append(sigma_BR)
        token_BNRH, sigma_BNR = torch.stack(tokens, 1), torch.stack(sizes, 1)
        rows, there_BNR = len(token_BNRH), sigma_BNR > 0
        log_BNR = (1 + sigma_BNR).log()
        z_BNR = (log_BNR - log_BNR.mean(2, keepdim=True)) / (log_BNR.std(2, keepdim=True) + 1e-6)
        scale, shift = self.film(z_BNR[..., None]).chunk(2, -1)
        token_BNRH = token_BNRH * (1 + self.strength * scale.tanh()) + self.strength * shift
        hidden_BNR, lacking_BN = _all_but_some(there_BNR), _all_but_some(there_BNR.any(2))
        token_BNRH = self.ranks(
            token_BNRH.flatten(0, 1), src_key_padding_mask=hidden_BNR.flatten(0, 1)
        ).view_as(token_BNRH)
        score_BNR = self.score(token_BNRH).squeeze(-1) + 0.5 * log_BNR
        weight_BNR = score_BNR.masked_fill(hidden_BNR, -torch.inf).softmax(2)
        pooled_BNH = (token_BNRH * weight_BNR[..., None]).sum(2) + self.place
        x_BNH = self.modules_layer(pooled_BNH, src_key_padding_mask=lacking_BN)
        score_BN = self.score(x_BNH).squeeze(-1).masked_fill(lacking_BN, -torch.inf)
        weight_BN = score_BN.softmax(1)
        found: Tensor = self.head((x_BNH * weight_BN[..., None]).sum(1)).view(rows, -1)
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


def _all_but_some(there: Tensor) -> Tensor:
    """What attention leaves out: what is not there, but never everything, which has no softmax."""
    nothing = ~there.any(-1, keepdim=True)
    first = torch.arange(there.shape[-1]) == 0
    return ~(there | (nothing & first))


def canonical_factors(a_RI: Tensor, b_OR: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Balanced factors of the best product of a rank, zero-padded: A (rank, I), B (O, rank).

    Columns are singular directions by size, each times the root of its singular value; the sign is
    that of the largest entry of the left one, as Weight2Token fixes it.
    """
    q_OR, left_RR = torch.linalg.qr(b_OR)
    p_IR, right_RR = torch.linalg.qr(a_RI.mT)
    u_RR, sigma_R, vh_RR = torch.linalg.svd(left_RR @ right_RR.mT)
    kept = min(rank, len(sigma_R))
    u_OR, v_RI = (q_OR @ u_RR)[:, :kept], (vh_RR @ p_IR.mT)[:kept]
    sign_R = u_OR.gather(0, u_OR.abs().argmax(0, keepdim=True)).squeeze(0).sign()
    root_R = sigma_R[:kept].sqrt()
    a_RI, b_OR = (root_R * sign_R)[:, None] * v_RI, u_OR * (root_R * sign_R)
    pad = rank - kept
    return nn.functional.pad(a_RI, (0, 0, 0, pad)), nn.functional.pad(b_OR, (0, pad))


def directions_of(a_BRI: Tensor, b_BOR: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left directions (B, R, O), singular values (B, R), right directions (B, R, I).

    Of canonical factors; zeros stay zeros.
    """
    u_BRO = b_BOR.mT
    left_BR, right_BR = u_BRO.norm(dim=2), a_BRI.norm(dim=2)
    u_BRO = u_BRO / left_BR.clamp_min(1e-12)[..., None]
    return u_BRO, left_BR * right_BR, a_BRI / right_BR.clamp_min(1e-12)[..., None]


class AccuracyReader(nn.Module):
    """A reader of weights that predicts accuracy: (B,), 0 to 1.

    Some readers leave out how strong the weights are, so all are told: the log norm of each module
    in standard deviations of the training, zeros where an adapter lacks one.

    Args:
        net: Any reader, its vectors (B, E).
        embed_dim: Width E.
        modules: Number of modules.
    """

    def __init__(self, net: nn.Module, embed_dim: int, modules: int, *, hidden: int = 64):
        super().__init__()
        self.net, self.norm = net, nn.LayerNorm(embed_dim)
        self.head = nn.Sequential(
            nn.Dropout(0.1),
            nn.Linear(embed_dim + 2 * modules, hidden),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, 1),
        )

    def forward(self, factors: Factors, strength_BN: Tensor) -> Tensor:
        """See the class; `strength_BN` from `strengths`, (B, 2 N)."""
        vector_BE = self.norm(self.net(factors))
        found: Tensor = self.head(torch.cat([vector_BE, strength_BN], 1)).squeeze(1).sigmoid()
        return found


def strengths(factors: Factors, train: Sequence[int]) -> Tensor:
    """Standardized log norm of each module, and whether it is there, (B, 2 N)."""
    norms = [
        (a.float().square().sum(2) * b.float().square().sum(1)).sum(1).sqrt()
        for a, b in factors.values()
    ]
    norm_BN = torch.stack(norms, 1)
    there_BN = (norm_BN > 0).float()
    log_BN = norm_BN.clamp_min(1e-6).log10()
    count_N = there_BN[train].sum(0).clamp_min(2)
    mean_N = (log_BN * there_BN)[train].sum(0) / count_N
    spread_N = (((log_BN - mean_N) * there_BN)[train].square().sum(0) / count_N).sqrt()
    scaled_BN = ((log_BN - mean_N) / spread_N.clamp_min(1e-3)).clamp(-5, 5) * there_BN
    return torch.cat([scaled_BN, there_BN], 1)


def _standard(x: Tensor) -> Tensor:
    """Zero mean and unit spread of each sample."""
    flat = x.flatten(1)
    mean, std = flat.mean(1)[:, None, None], flat.std(1)[:, None, None]
    return (x - mean) / (std + 1e-12)
