"""Rank and target modules before any training, from adapters of like tasks.

Every option within a budget of parameters is a cut: an adapter loses the modules outside the
targets and the components beyond the rank. What share of its energy (squared norm of delta weights)
a like adapter would keep says how much room a task of that kind wants there. Only singular values
are read, so nothing depends on a gauge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import singular_values
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.errors import AdapterMismatchError, ConfigError

RANKS = (1, 2, 4, 8, 16, 32, 64)
TARGETS: tuple[str | tuple[str, ...], ...] = ("all-linear", "attention", "mlp")


@dataclass(frozen=True, kw_only=True)
class Option:
    """A rank and targets, as `LoraConfig` takes them, with what they cost."""

    rank: int
    targets: str | tuple[str, ...]
    modules: tuple[str, ...]
    """Paths that the targets select."""
    parameters: int

    @property
    def name(self) -> str:
        """Targets and rank in words."""
        targets = self.targets if isinstance(self.targets, str) else "+".join(self.targets)
        return f"{targets}, rank {self.rank}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An option, and what like adapters would keep under it."""

    option: Option
    kept: float
    """Share of energy, the weighted mean over the like adapters; 0 to 1."""


def options_within(
    spec: BaseModelSpec,
    budget: int,
    *,
    ranks: Sequence[int] = RANKS,
    targets: Sequence[str | tuple[str, ...]] = TARGETS,
) -> list[Option]:
    """Every rank with every choice of targets that has at most `budget` parameters.

    Args:
        spec: The base.
        budget: Most trained parameters.
        ranks: Ranks to consider.
        targets: Targets to consider, in PEFT's words.

    Raises:
        ConfigError: Nothing is that small.
        BaseModelError: A target selects no module of the base.
    """
    found = []
    for target in targets:
        modules = select_targets(spec, target)
        shapes = [spec.modules[name] for name in modules]
        a_rank = sum(s.out_features + s.in_features for s in shapes)
        found += [
            Option(rank=rank, targets=target, modules=modules, parameters=rank * a_rank)
            for rank in ranks
        ]
    within = [option for option in found if option.parameters <= budget]
    if not within:
        least = min(found, key=lambda option: option.parameters)
        raise ConfigError(
            f"`budget` is {budget:,} parameters, and the smallest option ({least.name}) has "
            f"{least.parameters:,}. Raise it."
        )
    return within


def ranked_options(
    options: Sequence[Option],
    like: Sequence[Adapter],
    weights: Sequence[float] | None = None,
) -> list[Choice]:
    """The options, the one first under which the like adapters would keep most.

    Where two keep the same to a thousandth, the one with fewer parameters is first.

    Args:
        options: From `options_within`.
        like: Adapters of like tasks: a zoo's nearest, generated candidates.
        weights: How much each counts. Default: alike.

    Raises:
        AdapterMismatchError: There is no adapter, or not one weight for each.
    """
    shares = [1.0] * len(like) if weights is None else list(weights)
    if not like or len(shares) != len(like) or not sum(shares) > 0:
        raise AdapterMismatchError(
            f"There are {len(like)} like adapters and {len(shares)} weights. Pass at least one "
            "adapter, and a weight for each."
        )
    spectra = [singular_values(adapter) for adapter in like]
    total = sum(shares)
    choices = [
        Choice(
            option=option,
            kept=sum(w * _kept(s, option) for w, s in zip(shares, spectra, strict=True)) / total,
        )
        for option in options
    ]
    return sorted(choices, key=lambda one: (-round(one.kept, 3), one.option.parameters))


def _kept(spectrum: Mapping[str, Tensor], option: Option) -> float:
    whole = sum(float(values.double().square().sum()) for values in spectrum.values())
    kept = sum(
        float(spectrum[name][: option.rank].double().square().sum())
        for name in option.modules
        if name in spectrum
    )
    return kept / whole if whole > 0 else 0.0
