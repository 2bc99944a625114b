"""The generator's network: backbone, denoiser and condition encoder as one ModelMixin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.scaling import TokenScaling
from lora_gen.conditioning.condition import Condition
from lora_gen.models.backbone import RecurrentBackbone
from lora_gen.models.blocks import NoiseLevel
from lora_gen.models.condition_encoder import ConditionEncoder
from lora_gen.models.denoiser import TokenDenoiser

MIN_LEVEL = 1e-3
"""Below this noise level the flow is taken as at this level: it divides by it."""


@dataclass(frozen=True, kw_only=True)
class Prototype:
    """What the backbone made of a condition; one pass serves all sampler steps."""

    states: Tensor
    """State of each slot, (B, N, H)."""
    memory: Tensor
    """Condition tokens, (B, K, H)."""
    mask: Tensor
    """True where the memory is valid, (B, K)."""


class RecurrentDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the flow of noisy tokens, given what was asked.

    The network itself predicts the clean tokens; the flow is v = (x_t - x_0) / t on the straight
    path x_t = (1 - t) x_0 + t noise (Lipman et al., arXiv 2210.02747), so any flow-matching
    scheduler can sample it.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        token_width: int = 128,
        hidden_dim: int = 256,
        text_dim: int = 384,
        byte_dim: int = 96,
        backbone_layers: int = 4,
        denoiser_layers: int = 2,
        num_heads: int = 4,
        ff_multiple: int = 3,
        example_dim: int = 0,
        latent_dim: int = 0,
        scaling: dict | None = None,  # type: ignore[type-arg]
        text_fingerprint: str | None = None,
        trained_bases: tuple[str, ...] = (),
        targets: tuple[str, ...] = (),
        strength: float = 1.0,
        max_rank: int = 0,
    ) -> None:
        super().__init__()
        self.condition_encoder = ConditionEncoder(
            text_dim, hidden_dim, byte_dim, example_dim=example_dim, latent_dim=latent_dim
        )
        self.backbone = RecurrentBackbone(hidden_dim, backbone_layers, num_heads, ff_multiple)
        self.level = NoiseLevel(hidden_dim)
        self.denoiser = TokenDenoiser(
            token_width + 1,
            hidden_dim,
            num_layers=denoiser_layers,
            num_heads=num_heads,
            multiple=ff_multiple,
        )

    @property
    def token_scaling(self) -> TokenScaling:
        """Scale of the tokens that the network was trained on, times its calibrated strength."""
        return TokenScaling(**(self.config.scaling or {})).times(self.config.strength)

    def components_for(self, base: str, rank: int) -> int:
        """How many of an adapter's components say something; the others are to be zero.

        Each component has states of its own, and those beyond the ranks of training are noise.
        """
        limit = self.config.max_rank if base in self.config.trained_bases else 0
        return min(rank, limit) if limit else rank

    def latent_of(self, noise_BND: Tensor) -> Tensor | None:
        """What the noise of all slots has in common, standard normal, (B, Z); None without latent.

        Slots see their own noise alone, so without it they could not agree on one of several
        adapters that fit.
        """
        width = self.config.latent_dim
        return noise_BND[..., :width].sum(1) / noise_BND.shape[1] ** 0.5 if width else None

    def prototype(self, condition: Condition, layout: TokenLayout) -> Prototype:
        """Slot states for a condition; once for each request, and for each latent."""
        memory_BKH, mask_BK = self.condition_encoder(condition)
        device = memory_BKH.device
        states_BNH = self.backbone(
            layout.slot_roles.to(device), layout.slot_features.to(device), memory_BKH, mask_BK
        )
        return Prototype(states=states_BNH, memory=memory_BKH, mask=mask_BK)

    def prototypes(
        self, condition: Condition, layout: TokenLayout, size: int
    ) -> Iterator[Prototype]:
        """`prototype` in pieces of `size` slots, each made when asked for.

        The backbone's state is carried from piece to piece, so that memory does not grow with the
        adapter.
        """
        memory_BKH, mask_BK = self.condition_encoder(condition)
        ends = None
        for start in range(0, layout.num_tokens, size):
            roles_n, features_nF = layout.window(start, min(start + size, layout.num_tokens))
            slots = (roles_n.to(memory_BKH.device), features_nF.to(memory_BKH.device))
            states_BnH, ends = self.backbone.step(slots, memory_BKH, mask_BK, ends)
            yield Prototype(states=states_BnH, memory=memory_BKH, mask=mask_BK)

    def clean(self, noisy_BND: Tensor, level_B: Tensor, prototype: Prototype) -> Tensor:
        """Prediction of the clean tokens, (B, N, D)."""
        tokens: Tensor = self.denoiser(
            noisy_BND, prototype.states, self.level(level_B), prototype.memory, prototype.mask
        )
        return tokens

    def forward(self, noisy_BND: Tensor, level_B: Tensor, prototype: Prototype) -> Tensor:
        """Flow v at noise level t in [0, 1], (B, N, D)."""
        clean_BND = self.clean(noisy_BND, level_B, prototype)
        return (noisy_BND - clean_BND) / level_B.clamp_min(MIN_LEVEL)[:, None, None]
