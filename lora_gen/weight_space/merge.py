"""Several adapters as one, on delta weights, at a chosen rank and with the error stated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.errors import AdapterMismatchError, AdapterValueError, ConfigError
from lora_gen.weight_space import elementwise, spectral
from lora_gen.weight_space.factors import (
    Cut,
    Terms,
    factors_of,
    pair_like,
    relative_error,
)
from lora_gen.weight_space.geodesic import geodesic

MergeMethod = Literal[
    "linear",
    "task_arithmetic",
    "ties",
    "dare",
    "dare_ties",
    "knots",
    "tsv",
    "isotropic",
    "geodesic",
]
METHODS: tuple[str, ...] = get_args(MergeMethod)

DENSITY: Mapping[str, float] = {"ties": 0.2, "dare": 0.5, "dare_ties": 0.5, "knots": 0.2}
"""Share of entries that a method keeps, where it drops any."""
_MEANS = ("linear", "geodesic")
"""Methods whose weights are shares; the others' scale what each adapter adds."""


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merged adapter, and how far its rank leaves it from the method's own result."""

    adapter: Adapter
    error: float
    """Frobenius norm of what the rank cut, relative to the uncut result; 0 where nothing was."""
    module_errors: Mapping[str, float]


def merge_adapters(
    adapters: Sequence[Adapter],
    weights: Sequence[float] | None = None,
    *,
    method: MergeMethod = "linear",
    rank: int | None = None,
    density: float | None = None,
    seed: int = 0,
) -> Merged:
    """The adapters as one.

    Ranks, scalings (rsLoRA, patterns) and modules may differ: only delta weights count. A negative
    weight takes an adapter away (task arithmetic's negation). One adapter at weight 1 is itself,
    whatever the method: there is nothing to settle between tasks.

    Args:
        adapters: At least one, all of one base; the first names base and task type.
        weights: One each. Default: shares that add up to 1 for `linear` and `geodesic`, else 1.
        method: `linear` and `task_arithmetic` (the weighted sum), `ties`, `dare`, `dare_ties`,
            `knots`, `tsv` (task singular vectors), `isotropic`, `geodesic` (Fréchet mean on the
            manifold of the inputs' rank).
        rank: Largest rank of the result. Default: the sum of the ranks, at which the weighted sum
            is exact.
        density: Share of entries kept, for the methods that drop some.
        seed: Draws what DARE drops.

    Raises:
        AdapterMismatchError: No adapters, other bases, other shapes, or another number of weights.
        AdapterValueError: A weight is not finite, or negative for `geodesic`; `rank` is below 1.
        ConfigError: The method is unknown, or `density` is out of range or has no use.
    """
    given = _weights(adapters, weights, method)
    kept = _density(method, density)
    _require_one_base(adapters)
    rank = sum(adapter.max_rank for adapter in adapters) if rank is None else rank
    if rank < 1:
        raise AdapterValueError(f"`rank` is {rank}, and must be at least 1.")
    if len(adapters) == 1 and given[0] == 1.0 and rank >= adapters[0].max_rank:
        return Merged(adapter=adapters[0], error=0.0, module_errors={})
    owners, modules = _modules(adapters, given, rank)
    merger = _merger(method, modules, kept, seed)
    cuts = {name: merger(name) for name in modules}
    pairs = {name: pair_like(owners[name], found.factors) for name, found in cuts.items()}
    return Merged(
        adapter=replace(adapters[0], pairs=pairs),
        error=relative_error(
            sum(found.squared_error for found in cuts.values()),
            sum(found.squared_norm for found in cuts.values()),
        ),
        module_errors={
            name: relative_error(found.squared_error, found.squared_norm)
            for name, found in cuts.items()
        },
    )


def _merger(
    method: str, modules: Mapping[str, Terms], density: float, seed: int
) -> Callable[[str], Cut]:
    """The method as a function of a module's name."""
    whole: dict[str, Callable[[Mapping[str, Terms], float, int], Callable[[str], Cut]]] = {
        "ties": elementwise.ties,
        "dare": elementwise.dare,
        "dare_ties": elementwise.dare_ties,
    }
    if method in whole:
        return whole[method](modules, density, seed)
    single: dict[str, Callable[[Terms], Cut]] = {
        "linear": spectral.linear,
        "task_arithmetic": spectral.linear,
        "knots": partial(spectral.knots, density=density),
        "tsv": spectral.task_singular_vectors,
        "isotropic": spectral.isotropic,
        "geodesic": geodesic,
    }
    return lambda name: single[method](modules[name])


def _modules(
    adapters: Sequence[Adapter], weights: Sequence[float], rank: int
) -> tuple[dict[str, LoraPair], dict[str, Terms]]:
    """A pair that shows each module's kind, and the terms of its merge."""
    owners: dict[str, LoraPair] = {}
    modules: dict[str, Terms] = {}
    for name in sorted({name for adapter in adapters for name in adapter.pairs}):
        having = [i for i, adapter in enumerate(adapters) if name in adapter.pairs]
        pairs = [adapters[i].pairs[name] for i in having]
        _require_same_module(name, pairs)
        owners[name] = pairs[0]
        modules[name] = Terms(
            name=name,
            factors=tuple(factors_of(pair) for pair in pairs),
            weights=tuple(weights[i] for i in having),
            owners=tuple(having),
            total=sum(weights),
            rank=rank,
        )
    return owners, modules


def _weights(
    adapters: Sequence[Adapter], weights: Sequence[float] | None, method: str
) -> list[float]:
    if method not in METHODS:
        raise ConfigError(f"`method` is `{method}`; choose one of {', '.join(METHODS)}.")
    if not adapters:
        raise AdapterMismatchError("There is no adapter to merge. Pass at least one.")
    if weights is None:
        return [1 / len(adapters) if method in _MEANS else 1.0] * len(adapters)
    if len(weights) != len(adapters):
        raise AdapterMismatchError(
            f"`weights` has {len(weights)} numbers for {len(adapters)} adapters. Pass one for each."
        )
    bad = next((weight for weight in weights if not math.isfinite(weight)), None)
    if bad is not None:
        raise AdapterValueError(f"`weights` holds {bad}, and must hold finite numbers.")
    if method == "geodesic" and (min(weights) < 0 or sum(weights) <= 0):
        raise AdapterValueError(
            f"`weights` holds {min(weights):g}, and a mean on a manifold needs shares from 0 up. "
            "Use `task_arithmetic` to take an adapter away."
        )
    return list(weights)


def _density(method: str, density: float | None) -> float:
    if density is None:
        return DENSITY.get(method, 1.0)
    if method not in DENSITY:
        raise ConfigError(
            f"`density` is for {', '.join(DENSITY)}, and `{method}` drops nothing. Leave it out."
        )
    if not 0 < density <= 1:
        raise ConfigError(f"`density` is {density:g}, and must be above 0 and at most 1.")
    return density


def _require_one_base(adapters: Sequence[Adapter]) -> None:
    bases = sorted({adapter.base for adapter in adapters if adapter.base is not None})
    if len(bases) > 1:
        raise AdapterMismatchError(
            f"`{bases[0]}` and `{bases[1]}` are different bases. Merge adapters of one base only."
        )


def _require_same_module(name: str, pairs: Sequence[LoraPair]) -> None:
    shapes = {(p.out_features, *p.lora_a.shape[1:], p.is_embedding) for p in pairs}
    if len(shapes) > 1:
        found = " and ".join(str((p.out_features, *p.lora_a.shape[1:])) for p in pairs[:2])
        raise AdapterMismatchError(
            f"`{name}` has different shapes in the adapters ({found}). They belong to different "
            "bases."
        )
