"""A baseline with what it needs to be used again: layout, scale of tokens and text encoder."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.scaling import TokenScaling
from lora_gen.conditioning.condition import Condition
from lora_gen.errors import ConfigError
from lora_gen.models.baselines.cvae import ConditionalVae
from lora_gen.models.baselines.hypernetwork import Hypernetwork
from lora_gen.models.baselines.latent_diffusion import LatentDiffusion
from lora_gen.models.baselines.one_for_all import OneForAll
from lora_gen.models.baselines.prompt_decoder import PromptDecoder

METHODS: dict[str, type[nn.Module]] = {
    "hypernetwork_behavior": Hypernetwork,
    "hypernetwork_reconstruction": Hypernetwork,
    "prompt_decoder": PromptDecoder,
    "cvae": ConditionalVae,
    "latent_diffusion": LatentDiffusion,
    "multi_task": OneForAll,
}
"""What a method trains."""


class Writer(Protocol):
    """What every network of `METHODS` can do."""

    def write(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """Tokens of an adapter for each row, (B, N, D + 1)."""
        ...


class BaselineModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A network of `METHODS`, saved with the layout that it writes.

    Raises:
        ConfigError: The method is unknown.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        method: str,
        layout: dict,  # type: ignore[type-arg]
        scaling: dict,  # type: ignore[type-arg]
        text_dim: int = 384,
        hidden_dim: int = 256,
        text_fingerprint: str | None = None,
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise ConfigError(
                f"`method` is {method!r}, but the baselines are {', '.join(METHODS)}. Name one."
            )
        self.network = METHODS[method](TokenLayout.from_dict(layout), text_dim, hidden_dim)

    @property
    def codec(self) -> AdapterCodec:
        """The map from its tokens to adapters."""
        layout = TokenLayout.from_dict(self.config.layout)
        return AdapterCodec(layout=layout, scaling=TokenScaling(**self.config.scaling))

    @property
    def is_told(self) -> bool:
        """Whether its base has to read the description before every input."""
        return bool(self.config.method == "multi_task")

    @torch.no_grad()
    def write(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """Tokens of an adapter for each row, (B, N, D + 1)."""
        return cast(Writer, self.network).write(condition, generator)
