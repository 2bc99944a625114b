"""The encoder of weights: a set of module features to one vector, beside the vector of a text.

Shapes: N modules, F raw features of a module, D projected features, T texts, K tokens of a text,
Q pooling queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from lora_gen.models.blocks import CrossAttention
from lora_gen.models.quality import QualityEnsemble
from lora_gen.models.text_tower import SetBlock, TextTower, TextTowerConfig

NUM_SCALES = 8
"""Of strength, of length of the vectors, and of agreement with a description."""
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


class AdapterEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Set transformer over the modules of an adapter, and a head over a frozen text encoder.

    Both vectors are a linear read-out plus what a network adds to it. The read-outs can be fitted
    in closed form, and the networks start at zero, so training begins at the ridge solution.

    The vector does not depend on the order or number of modules, and does not see the scale of the
    weights; the quality ensemble does. Modules meet a read-out by role and depth in the base, cut
    into a few bins, so any number of layers fits. Features are centered on the mean of their slot
    over the adapters it was trained on, and projected on its main directions: buffers.

    Where `shown_share` is not zero, a vector has two halves of fixed lengths: what descriptions say
    of a task, and what the base itself makes of solved examples of it.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        roles: tuple[str, ...],
        feature_dim: int,
        side_dim: int,
        views: tuple[str, ...] = ("linear",),
        depth_bins: int = 4,
        token_dim: int = 256,
        hidden_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        embed_dim: int = 256,
        text_dim: int = 384,
        text_segments: int = 4,
        text_hidden: int = 128,
        dropout: float = 0.2,
        num_answers: int = 0,
        shown_dim: int = 0,
        shown_share: float = 0.0,
        text_fingerprint: str | None = None,
        trained_bases: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        half = embed_dim // 2 if shown_share else 0
        self.register_buffer("shown_center", torch.zeros(shown_dim))
        self.register_buffer("shown_basis", torch.zeros(shown_dim, half))
        slots = len(roles) * depth_bins
        self.register_buffer("center", torch.zeros(slots, feature_dim))
        self.register_buffer("basis", torch.zeros(slots, feature_dim, token_dim))
        self.register_buffer("side_mean", torch.zeros(side_dim))
        self.register_buffer("side_std", torch.ones(side_dim))
        self.readout = nn.Parameter(torch.zeros(slots, token_dim, embed_dim))
        self.inputs = nn.Parameter(torch.randn(slots, token_dim, hidden_dim) / token_dim**0.5)
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
        self.text = TextTower(
            TextTowerConfig(
                text_dim=text_dim,
                segments=text_segments,
                hidden_dim=text_hidden,
                dropout=dropout,
            ),
            embed_dim,
        )
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.logit_scale = nn.Parameter(torch.tensor(2.5))
        width = embed_dim + 2 * side_dim + NUM_SCALES
        self.quality = QualityEnsemble(width, hidden_dim)
        self.register_buffer("answers", torch.zeros(width + 1, num_answers))

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
        """Centered features on the main directions of their slot, (N, D); zeros for unknown."""
        projected_ND = features_NF.new_zeros(len(features_NF), self.config.token_dim)
        for slot in torch.unique(slots_N).tolist():
            if slot >= 0:
                chosen_N = slots_N == slot
                offset_NF = features_NF[chosen_N] - self.center[slot]
                projected_ND[chosen_N] = offset_NF @ self.basis[slot]
        return projected_ND

    def read(self, modules: ModuleSet) -> Tensor:
        """The linear read-out, a sum over modules, (B, E)."""
        return _by_slot(modules.content, modules, self.readout).sum(1)

    def summary(self, modules: ModuleSet) -> Tensor:
        """What the queries read off the set, (B, Q * H)."""
        scale_BNH, shift_BNH = self.side((modules.side - self.side_mean) / self.side_std).chunk(
            2, -1
        )
        x_BNH = _by_slot(self.drop(modules.content), modules, self.inputs)
        x_BNH = x_BNH * (1 + scale_BNH) + shift_BNH
        for block in self.blocks:
            x_BNH = block(x_BNH, modules.mask)
        query_BQH = self.queries.expand(len(x_BNH), -1, -1)
        pooled_BQH: Tensor = self.pool(query_BQH, self.norm(x_BNH), modules.mask)
        return pooled_BQH.flatten(1)

    def embed(self, modules: ModuleSet, summary_BS: Tensor) -> Tensor:
        """Unit vectors, (B, E)."""
        return self.unit((self.read(modules) + self.output(summary_BS)).float())

    def embed_texts(self, states_TKC: Tensor, mask_TK: Tensor) -> Tensor:
        """Unit vectors of texts from the states of the frozen text encoder, (T, E)."""
        return self.unit(self.text(states_TKC, mask_TK).float())

    def embed_shown(self, shown_NS: Tensor, text_NE: Tensor | None = None) -> Tensor:
        """Unit vectors of tasks from the base's states under solved examples, (N, E).

        Args:
            shown_NS: From `lora_gen.retrieval.shown`.
            text_NE: Vectors of their descriptions, whose half is kept, if there are any.
        """
        own_NH = (shown_NS.float() - self.shown_center) @ self.shown_basis
        said_NH = torch.zeros_like(own_NH) if text_NE is None else text_NE[:, : own_NH.shape[1]]
        vector_NE = self.unit(torch.cat([said_NH, own_NH], -1))
        return nn.functional.normalize(vector_NE, dim=-1)

    def unit(self, vector_BE: Tensor) -> Tensor:
        """Vectors of length one, both halves of which have their own fixed share of it."""
        share = float(self.config.shown_share)
        if not share:
            return nn.functional.normalize(vector_BE, dim=-1)
        parts = vector_BE.chunk(2, -1)
        sizes = ((1 - share) ** 0.5, share**0.5)
        halves = [
            nn.functional.normalize(part, dim=-1) * size
            for part, size in zip(parts, sizes, strict=True)
        ]
        return torch.cat(halves, -1)

    def quality_input(
        self, summary_BS: Tensor, modules: ModuleSet, agreement_B: Tensor | None = None
    ) -> Tensor:
        """What `quality` reads, (B, S): it learns from the vector without changing it.

        It alone sees how strong the weights are, and how well they agree with a description.

        Args:
            summary_BS: From `summary`.
            modules: The adapters.
            agreement_B: Inner products of their vectors with those of their descriptions; NaN, or
                nothing at all, where there is none.
        """
        read_BE, added_BE = self.read(modules), self.output(summary_BS)
        vector_BE = self.unit(read_BE + added_BE)
        if agreement_B is None:
            agreement_B = read_BE.new_full((len(read_BE),), torch.nan)
        lengths_B3 = [x.norm(dim=1).clamp_min(1e-6).log() for x in (read_BE, read_BE + added_BE)]
        told_B = ~agreement_B.isnan()
        parts = [*lengths_B3, told_B.float(), agreement_B.nan_to_num()]
        side_BS = _moments((modules.side - self.side_mean) / self.side_std, modules.mask)
        stacked = torch.stack(parts, 1)
        return torch.cat([vector_BE, side_BS, _scales(modules), stacked], -1).detach().float()

    def answer(self, input_BS: Tensor) -> Tensor:
        """Logits of the answers to what is asked of an adapter's training, (B, answers).

        Args:
            input_BS: From `quality_input`, without a description.
        """
        known_BS = ((input_BS - self.quality.mean) / self.quality.std).clamp(-5, 5)
        logits_BA: Tensor = known_BS @ self.answers[:-1] + self.answers[-1]
        return logits_BA

    def forward(
        self, modules: ModuleSet, states_TKC: Tensor, mask_TK: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(vectors of adapters (B, E), vectors of texts (T, E))."""
        adapter_BE = self.embed(modules, self.summary(modules))
        return adapter_BE, self.embed_texts(states_TKC, mask_TK)


def _by_slot(content_BND: Tensor, modules: ModuleSet, weights_SDO: Tensor) -> Tensor:
    """Each module times the weights of its slot, (B, N, O); zeros where hidden or unknown."""
    out_BNO = content_BND.new_zeros(*content_BND.shape[:2], weights_SDO.shape[-1])
    for slot in torch.unique(modules.slots[modules.mask]).tolist():
        if slot >= 0:
            row, column = torch.where((modules.slots == slot) & modules.mask)
            found = content_BND[row, column] @ weights_SDO[slot]
            out_BNO = out_BNO.index_put((row, column), found.to(out_BNO.dtype))
    return out_BNO


def _moments(x_BNS: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean and spread over modules, (B, 2 S)."""
    weight_BN1 = mask_BN[..., None] / mask_BN.sum(1).clamp_min(1)[:, None, None]
    mean_BS = (x_BNS * weight_BN1).sum(1)
    spread_BS = ((x_BNS - mean_BS[:, None]).square() * weight_BN1).sum(1).sqrt()
    return torch.cat([mean_BS, spread_BS], -1)


def _scales(modules: ModuleSet) -> Tensor:
    """Mean, spread, least and largest log scale of the modules, (B, 4)."""
    mask_BN, scale_BN = modules.mask, modules.scale
    count_B = mask_BN.sum(1).clamp_min(1)
    mean_B = (scale_BN * mask_BN).sum(1) / count_B
    spread_B = (((scale_BN - mean_B[:, None]) * mask_BN).square().sum(1) / count_B).sqrt()
    least_B = scale_BN.masked_fill(~mask_BN, torch.inf).amin(1)
    most_B = scale_BN.masked_fill(~mask_BN, -torch.inf).amax(1)
    return torch.stack([mean_B, spread_B, least_B, most_B], 1)
