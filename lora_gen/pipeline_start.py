"""Where sampling begins: at noise, or at an adapter under partial noise, of which some is kept."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import norm, truncate
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.errors import GeneratorError


@dataclass(frozen=True, kw_only=True)
class Start:
    """An adapter to begin from, as tokens."""

    clean_ND: Tensor
    kept_N: Tensor
    """True for tokens that stay as they are."""
    strength: float
    """Noise level to begin at: at 1 the network sees nothing of the adapter."""

    def noised(self, noise_BND: Tensor, level: float) -> Tensor:
        """The adapter on the flow's path, `level` of the way to the noise; (B, N, D)."""
        return (1 - level) * self.clean_ND.to(noise_BND) + level * noise_BND

    def hold(self, x_BND: Tensor, noise_BND: Tensor, level: float) -> Tensor:
        """`x_BND` with the kept tokens where they belong at that level (RePaint, Lugmayr 2022)."""
        kept_N1 = self.kept_N.to(x_BND.device)[:, None]
        return torch.where(kept_N1, self.noised(noise_BND, level), x_BND)


def start_of(
    adapter: Adapter | None, codec: AdapterCodec, *, strength: float, keep: Sequence[str] | None
) -> Start | None:
    """The start that a request asks for; None for pure noise.

    Args:
        adapter: Where to begin.
        codec: Of the request's base, rank and targets.
        strength: Noise level to begin at.
        keep: Modules that stay, by path or suffix such as `q_proj`.

    Raises:
        GeneratorError: `strength` is out of range, or there is nothing to begin from, or a module
            to keep does not exist, or the adapter has a higher rank than was asked for.
        LayoutMismatchError: The adapter has other modules than were asked for.
    """
    if not 0 < strength <= 1:
        raise GeneratorError(f"`strength` must be above 0 and at most 1, but is {strength!r}.")
    if adapter is None:
        if strength != 1 or keep:
            raise GeneratorError(
                f"`{'keep' if keep else 'strength'}` says how much of an adapter stays, but there "
                "is none. Pass `start_from=` too."
            )
        return None
    cut = truncate(adapter, codec.layout.rank)
    whole = norm(adapter)
    if norm(cut) < (1 - 1e-5) * whole:
        raise GeneratorError(
            f"`start_from` has rank {adapter.max_rank} and would lose some of its effect at rank "
            f"{codec.layout.rank}. Pass `rank={adapter.max_rank}`."
        )
    return Start(
        clean_ND=codec.encode(cut), kept_N=_kept(codec.layout, keep or ()), strength=strength
    )


def set_timesteps(scheduler: Any, steps: int, device: torch.device, *, strength: float) -> None:
    """Equal steps from noise level `strength` to 0, the levels that behavior was trained on.

    FlowMatch schedulers would by themselves spend the last step at level 0.001; the others take
    equal steps by default.

    Raises:
        GeneratorError: The noise scheduler cannot begin at a level below 1.
    """
    takes_sigmas = "sigmas" in inspect.signature(scheduler.set_timesteps).parameters
    if type(scheduler).__name__.startswith("FlowMatch") and takes_sigmas:
        sigmas = torch.linspace(strength, strength / steps, steps).tolist()
        scheduler.set_timesteps(sigmas=sigmas, device=device)
    elif strength == 1:
        scheduler.set_timesteps(steps, device=device)
    else:
        raise GeneratorError(
            f"`{type(scheduler).__name__}` cannot begin at noise level {strength}. Use "
            "`FlowMatchEulerDiscreteScheduler`, or `strength=1`."
        )


def _kept(layout: TokenLayout, keep: Sequence[str]) -> Tensor:
    """A flag for each token: component by component, module by module, as the layout goes."""
    names = [module.name for module in layout.modules]
    unknown = [part for part in keep if not any(_names(part, name) for name in names)]
    if unknown:
        raise GeneratorError(
            f"`keep` names `{unknown[0]}`, which is no module of this request. "
            f"There are {names[0]} and {len(names) - 1} more."
        )
    flags: list[bool] = []
    for module in layout.modules:
        count = layout.chunks(module.in_features) + layout.chunks(module.out_features)
        flags += [any(_names(part, module.name) for part in keep)] * count
    return torch.tensor(flags).repeat(layout.rank)


def _names(part: str, name: str) -> bool:
    return name == part or name.endswith(f".{part}")
