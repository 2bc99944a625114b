"""The encoder of weights: a set of module features to one vector, beside the vector of a text.

Shapes: N modules, F raw features of a module, D projected features, T texts, G segments of a text,
Q pooling queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from lora_gen.models.blocks import CrossAttention, FeedForward
from lora_gen.models.quality import QualityEnsemble

NUM_SCALES = 4
_QUERIES = 4


@dataclass(frozen=True, kw_only=True)
class ModuleSet:
    """Modules of B adapters as the encoder reads them, padded to the longest."""

    content: Tensor
    """Projected features, (B, N, D)."""
    slots: Tensor
    """Role and depth of each module as `AdapterEncoder.slots` numbers them, (B, N)."""
    side: Tensor
    """Shape of the spectrum and place in the base, (B, N, `side_dim`)."""
    scale: Tensor
    """log10 of the root mean square, (B, N)."""
    mask: Tensor
    """True where a module is, (B, N)."""

    def to(self, device: torch.device | str) -> ModuleSet:
        """The set on another device."""
        return ModuleSet(**{name: value.to(device) for name, value in vars(self).items()})

    def without(self, dropped_BN: Tensor) -> ModuleSet:
        """The set without some modules."""
        return ModuleSet(**{**vars(self), "mask": self.mask & ~dropped_BN})


def segment_pool(states_BKC: Tensor, mask_BK: Tensor, segments: int) -> Tensor:
    """Means over a whole text and over equal stretches of it, (B, 1 + segments, C).

    A mean over all tokens hardly knows whether "reverse" comes before or after "drop".
    """
    place_BK = mask_BK.cumsum(1) - 1
    length_B1 = mask_BK.sum(1, keepdim=True)
    short_B1, longer_B1 = length_B1 // segments, length_B1 % segments
    # As `torch.tensor_split`: the first stretches take the tokens that are left over.
    edge_B1 = longer_B1 * (short_B1 + 1)
    which_BK = torch.where(
        place_BK < edge_B1,
        place_BK // (short_B1 + 1),
        longer_B1 + (place_BK - edge_B1) // short_B1.clamp_min(1),
    )
    means = []
    for segment in range(-1, segments):
        chosen_BK = mask_BK if segment < 0 else mask_BK & (which_BK == segment)
        weight_BK1 = chosen_BK[..., None].to(states_BKC.dtype)
        means.append((states_BKC * weight_BK1).sum(1) / weight_BK1.sum(1).clamp_min(1))
    return torch.stack(means, 1)


class SetBlock(nn.Module):
    """Modules read each other, then think."""

    def __init__(self, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(2))
        self.attention = CrossAttention(hidden_dim, num_heads)
        self.feed_forward = FeedForward(hidden_dim, 2)

    def forward(self, x_BNH: Tensor, mask_BN: Tensor) -> Tensor:
        """New states, (B, N, H); a permutation of the modules permutes them."""
        normed_BNH = self.norms[0](x_BNH)
        x_BNH = x_BNH + self.attention(normed_BNH, normed_BNH, mask_BN)
        out_BNH: Tensor = x_BNH + self.feed_forward(self.norms[1](x_BNH))
        return out_BNH


class AdapterEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Set transformer over the modules of an adapter, and a head over a frozen text encoder.

    Both vectors are a linear read-out plus what a network adds to it. The read-outs can be fitted
    in closed form, and the networks start at zero, so training begins at the ridge solution.

    The vector does not depend on the order or number of modules, and does not see the scale of the
    weights; the quality ensemble does. Modules meet a read-out by role and depth in the base, cut
    into a few bins, so any number of layers fits. Features are centered on the mean of their role
    and bin over the adapters it was trained on, and projected on their main directions: buffers.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        roles: tuple[str, ...],
        feature_dim: int,
        side_dim: int,
        depth_bins: int = 4,
        token_dim: int = 256,
        hidden_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        embed_dim: int = 256,
        text_dim: int = 384,
        text_segments: int = 4,
        dropout: float = 0.2,
        text_fingerprint: str | None = None,
        trained_bases: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(len(roles) * depth_bins, feature_dim))
        self.register_buffer("basis", torch.zeros(len(roles), feature_dim, token_dim))
        self.register_buffer("side_mean", torch.zeros(side_dim))
        self.register_buffer("side_std", torch.ones(side_dim))
        self.register_buffer("text_center", torch.zeros((1 + text_segments) * text_dim))
        self.readout = nn.Parameter(torch.zeros(len(roles) * depth_bins, token_dim, embed_dim))
        self.text_readout = nn.Parameter(torch.zeros((1 + text_segments) * text_dim, embed_dim))
        self.inputs = nn.ModuleList(nn.Linear(token_dim, hidden_dim) for _ in roles)
        self.side = nn.Sequential(
            nn.Linear(side_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, 2 * hidden_dim)
        )
        # Not `dropout`: Diffusers answers names of the config before names of modules.
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(SetBlock(hidden_dim, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_dim)
        self.queries = nn.Parameter(torch.randn(_QUERIES, hidden_dim) * 0.02)
        self.pool = CrossAttention(hidden_dim, num_heads)
        self.output = nn.Linear(_QUERIES * hidden_dim, embed_dim)
        self.text = nn.Sequential(
            nn.LayerNorm(text_dim),
            nn.Flatten(-2),
            nn.Dropout(dropout),
            nn.Linear((1 + text_segments) * text_dim, 2 * hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * hidden_dim, embed_dim),
        )
        for layer in (self.output, self.text[-1]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        self.logit_scale = nn.Parameter(torch.tensor(2.5))
        self.quality = QualityEnsemble(_QUERIES * hidden_dim + NUM_SCALES, hidden_dim)

    def slots(self, roles_N: Tensor, depths_N: Tensor) -> Tensor:
        """Number of each module's role and depth bin, -1 for a role it does not know, (N,).

        Args:
            roles_N: Places in the encoder's own `roles`, -1 where unknown.
            depths_N: Depth in the base, 0 to 1.
        """
        bins = self.config.depth_bins
        bin_N = (depths_N * (bins - 1)).round().long().clamp(0, bins - 1)
        return torch.where(roles_N < 0, -1, roles_N * bins + bin_N)

    def project(self, features_NF: Tensor, slots_N: Tensor) -> Tensor:
        """Centered features on the main directions of their role, (N, D); zeros for unknown."""
        projected_ND = features_NF.new_zeros(len(features_NF), self.config.token_dim)
        for i in range(len(self.config.roles)):
            chosen_N = slots_N // self.config.depth_bins == i
            if chosen_N.any():
                offset_NF = features_NF[chosen_N] - self.center[slots_N[chosen_N]]
                projected_ND[chosen_N] = offset_NF @ self.basis[i]
        return projected_ND

    def read(self, modules: ModuleSet) -> Tensor:
        """The linear read-out, a sum over modules, (B, E)."""
        total_BE = modules.content.new_zeros(len(modules.mask), self.config.embed_dim)
        for slot in torch.unique(modules.slots[modules.mask]).tolist():
            if slot >= 0:
                row, column = torch.where((modules.slots == slot) & modules.mask)
                found = (modules.content[row, column] @ self.readout[slot]).to(total_BE.dtype)
                total_BE = total_BE.index_add(0, row, found)
        return total_BE

    def summary(self, modules: ModuleSet) -> Tensor:
        """What the queries read off the set, (B, Q * H)."""
        scale_BNH, shift_BNH = self.side((modules.side - self.side_mean) / self.side_std).chunk(
            2, -1
        )
        content_BND = self.drop(modules.content)
        x_BNH = torch.zeros_like(shift_BNH)
        for i, layer in enumerate(self.inputs):
            chosen_BN1 = (modules.slots // self.config.depth_bins == i)[..., None]
            if chosen_BN1.any():
                x_BNH = x_BNH + chosen_BN1 * layer(content_BND)
        x_BNH = x_BNH * (1 + scale_BNH) + shift_BNH
        for block in self.blocks:
            x_BNH = block(x_BNH, modules.mask)
        query_BQH = self.queries.expand(len(x_BNH), -1, -1)
        pooled_BQH: Tensor = self.pool(query_BQH, self.norm(x_BNH), modules.mask)
        return pooled_BQH.flatten(1)

    def embed(self, modules: ModuleSet, summary_BS: Tensor) -> Tensor:
        """Unit vectors, (B, E)."""
        sum_BE = self.read(modules) + self.output(summary_BS)
        return nn.functional.normalize(sum_BE.float(), dim=-1)

    def embed_texts(self, segments_TGC: Tensor) -> Tensor:
        """Unit vectors of texts pooled by `segment_pool`, (T, E)."""
        linear_TE = (segments_TGC.flatten(1) - self.text_center) @ self.text_readout
        return nn.functional.normalize((linear_TE + self.text(segments_TGC)).float(), dim=-1)

    def quality_input(self, summary_BS: Tensor, modules: ModuleSet) -> Tensor:
        """What `quality` reads, (B, S): it learns from the summary without changing it.

        It alone sees how strong the weights are.
        """
        return torch.cat([summary_BS.detach(), _scales(modules)], -1)

    def forward(self, modules: ModuleSet, segments_TGC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(vectors of adapters (B, E), vectors of texts (T, E), qualities (B, members))."""
        summary_BS = self.summary(modules)
        return (
            self.embed(modules, summary_BS),
            self.embed_texts(segments_TGC),
            self.quality(self.quality_input(summary_BS, modules)),
        )


def _scales(modules: ModuleSet) -> Tensor:
    """Mean, spread, least and largest log scale of the modules, (B, NUM_SCALES)."""
    mask_BN, scale_BN = modules.mask, modules.scale
    count_B = mask_BN.sum(1).clamp_min(1)
    mean_B = (scale_BN * mask_BN).sum(1) / count_B
    spread_B = (((scale_BN - mean_B[:, None]) * mask_BN).square().sum(1) / count_B).sqrt()
    least_B = scale_BN.masked_fill(~mask_BN, torch.inf).amin(1)
    most_B = scale_BN.masked_fill(~mask_BN, -torch.inf).amax(1)
    return torch.stack([mean_B, spread_B, least_B, most_B], 1)
