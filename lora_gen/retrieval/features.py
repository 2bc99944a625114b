"""What the weights of an adapter say, module by module, whatever gauge they are written in.

Everything is computed from r-by-r cores and from sketches P^T B and A Q of the factors, in float64;
a dense delta weight is never built. The features of a module do not change under
(B @ G, inv(G) @ A), zero padding of the rank, folding of alpha, or another order of keys; fused
`qkv` and `gate_up` modules are split first.

Shapes: M modules of one shape, P directions in a frame, F features of a module.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair, require_finite
from lora_gen.codec.layout import layer_depths
from lora_gen.codec.roles import ROLES, role_of
from lora_gen.errors import AdapterValueError
from lora_gen.retrieval.frames import Frames, HashedFrames, Side

POLAR_KNEE = 0.05
"""Singular values above this share of the largest count as one in the soft-polar sketch."""
VIEWS = ("linear", "polar", "rows", "columns")
SKETCH_WEIGHTS = (1.0, 0.5, 0.5, 0.5)
"""Of the linear, polar, row and column sketches, each a unit vector, where they stand together."""
FEATURES_VERSION = 2
"""Another one makes everything stale that was derived from features."""
ENERGY_RANKS = (1, 2, 4, 8, 16)
NUM_SHAPE_FEATURES = len(ENERGY_RANKS) + 4
NUM_PLACE_FEATURES = 11
_FOURIER_BANDS = 4
_MAX_VALUES = 2_000_000
"""Factor values in float64 at once: 16 MB, so that memory stays near the size of the file."""


@dataclass(frozen=True, kw_only=True)
class AdapterFeatures:
    """Features of every module of an adapter, in the order of its module paths."""

    modules: tuple[str, ...]
    """Module paths, fused modules split."""
    roles: Tensor
    """Index in `ROLES`, (N,) int64."""
    places: Tensor
    """Depth and widths of each module, (N, NUM_PLACE_FEATURES) float64."""
    linear: Tensor
    """P^T dW Q as a unit vector, (N, P * P)."""
    polar: Tensor
    """The same with singular values pressed towards one: directions without magnitude."""
    rows: Tensor
    """P^T (dW dW^T) P, upper triangle with Frobenius weights, as a unit vector."""
    columns: Tensor
    """Q^T (dW^T dW) Q, likewise."""
    shape: Tensor
    """How energy is spread over singular values, how much of it the frames see, and each module's
    share, (N, NUM_SHAPE_FEATURES)."""
    scale: Tensor
    """log10 of the delta weight's root mean square, (N,): what the other features leave out."""

    def sketches(self, views: Sequence[str] = VIEWS) -> Tensor:
        """Some of the four sketches side by side, weighted by `SKETCH_WEIGHTS`, (N, F)."""
        weights = dict(zip(VIEWS, SKETCH_WEIGHTS, strict=True))
        return torch.cat([weights[view] * getattr(self, view) for view in views], 1)


def module_features(adapter: Adapter, frames: Frames | None = None) -> AdapterFeatures:
    """The features of an adapter.

    Args:
        adapter: Any adapter with at least one module.
        frames: Directions to look along; 32 hashed ones by default.

    Raises:
        AdapterValueError: It has no modules, no effect, or values that are not finite.
    """
    return features_of_many([adapter], frames)[0]


def features_of_many(
    adapters: Sequence[Adapter], frames: Frames | None = None
) -> list[AdapterFeatures]:
    """The features of several adapters, like modules of all of them at once.

    Args:
        adapters: As many as fit in memory in float64, several times over.
        frames: Directions to look along; 32 hashed ones by default.

    Raises:
        AdapterValueError: One has no modules, no effect, or values that are not finite.
    """
    frames = frames or HashedFrames()
    plain = [unfused(adapter) for adapter in adapters]
    if not all(adapter.pairs for adapter in plain):
        raise AdapterValueError("The adapter has no modules, so there is nothing to look at.")
    pairs = {(i, name): pair for i, one in enumerate(plain) for name, pair in one.pairs.items()}
    parts: dict[tuple[int, str], dict[str, Tensor]] = {}
    for chosen in _groups(pairs, frames.sketch, alone=len(plain) == 1):
        first, names = pairs[chosen[0]], list(dict.fromkeys(name for _, name in chosen))
        left_OP = _frames(frames, names, "out", first.out_features)
        right_IP = _frames(frames, names, "in", first.in_features)
        b_MOR, a_MRI = _stacked([pairs[key] for key in chosen])
        gram_a_MRR, gram_b_MRR = a_MRI @ a_MRI.mT, b_MOR.mT @ b_MOR
        if not bool(torch.isfinite(gram_a_MRR.sum() + gram_b_MRR.sum())):
            for i in sorted({i for i, _ in chosen}):
                require_finite(adapters[i])  # any bad value reaches its Gram; this names the tensor
        found = _views(gram_a_MRR, gram_b_MRR, left_OP.mT @ b_MOR, a_MRI @ right_IP)
        for row, key in enumerate(chosen):
            parts[key] = {view: value[row] for view, value in found.items()}
    return [
        _assembled(one.pairs, {name: parts[i, name] for name in one.pairs})
        for i, one in enumerate(plain)
    ]


def _assembled(
    pairs: Mapping[str, LoraPair], parts: Mapping[str, Mapping[str, Tensor]]
) -> AdapterFeatures:
    """One adapter from the views of its modules."""
    names = tuple(pairs)
    stacked = {key: torch.stack([parts[name][key] for name in names]) for key in parts[names[0]]}
    energy_N = stacked.pop("energy")
    if not float(energy_N.sum()) > 0:
        raise AdapterValueError(
            "The adapter has a zero delta weight in every module, so it does nothing. Train it."
        )
    sizes = torch.tensor([[p.out_features, p.in_features] for p in pairs.values()]).double()
    share_N = (energy_N / energy_N.sum()).clamp_min(1e-12).log10()
    rms_N = (energy_N / sizes.prod(1)).clamp_min(1e-24).log10() / 2
    return AdapterFeatures(
        modules=names,
        roles=torch.tensor([ROLES.index(role_of(name)) for name in names]),
        places=_places(names, sizes),
        shape=torch.cat([stacked.pop("spread"), stacked.pop("seen"), share_N[:, None]], 1),
        scale=rms_N,
        **stacked,
    )


def side_features(features: AdapterFeatures) -> Tensor:
    """Shape of the spectrum and place in the base, (N, `side_dim`) float32."""
    return torch.cat([features.shape, features.places], 1).float()


def unfused(adapter: Adapter) -> Adapter:
    """The adapter with `qkv`-like and `gate_up` modules as the modules that they fuse.

    Only block-wise fusions whose parts follow from the shape are split: queries as wide as the
    input, keys and values sharing the rest; gate and up sharing one output.
    """
    pairs: dict[str, LoraPair] = {}
    for name, pair in adapter.pairs.items():
        parent, _, last = name.rpartition(".")
        parts = _fused_parts(last, pair)
        rows = torch.split(pair.lora_b, [size for _, size in parts]) if parts else ()
        for (part, _), lora_b in zip(parts, rows, strict=True):
            pairs[f"{parent}.{part}".lstrip(".")] = replace(pair, lora_b=lora_b)
        if not parts:
            pairs[name] = pair
    return replace(adapter, pairs=pairs)


def _fused_parts(last: str, pair: LoraPair) -> list[tuple[str, int]]:
    width, rest = pair.in_features, pair.out_features - pair.in_features
    if pair.is_conv or pair.is_embedding:
        return []
    if last in ("c_attn", "qkv_proj", "Wqkv") and rest > 0 and rest % 2 == 0:
        return [("q_proj", width), ("k_proj", rest // 2), ("v_proj", rest // 2)]
    if last == "gate_up_proj" and pair.out_features % 2 == 0:
        return [("gate_proj", pair.out_features // 2), ("up_proj", pair.out_features // 2)]
    return []


def _groups(
    pairs: Mapping[tuple[int, str], LoraPair], sketch: int, *, alone: bool
) -> Iterator[list[tuple[int, str]]]:
    """Modules of one shape and rank, a bounded number at once.

    Of several adapters, modules of one path go together, since they share their frames.
    """
    groups: dict[tuple[int, int, int, str], list[tuple[int, str]]] = defaultdict(list)
    for key, pair in pairs.items():
        path = "" if alone else key[1]
        groups[pair.rank, pair.out_features, pair.in_features, path].append(key)
    for (rank, out_features, in_features, _), keys in groups.items():
        count = max(1, _MAX_VALUES // (max(rank, sketch) * (out_features + in_features)))
        for start in range(0, len(keys), count):
            yield keys[start : start + count]


def _frames(frames: Frames, names: Sequence[str], side: Side, width: int) -> Tensor:
    """The frame (width, P) that modules share, or one for each, (M, width, P)."""
    found = dict([frames.of(name, side, width) for name in names])
    if len(found) == 1:
        return next(iter(found.values()))
    return torch.stack([frames.of(name, side, width)[1] for name in names])


def _stacked(pairs: Sequence[LoraPair]) -> tuple[Tensor, Tensor]:
    """B (M, out, R) with scaling folded in, and A (M, R, in), float64."""
    a_MRI = torch.stack([pair.matrices()[0].detach() for pair in pairs]).double()
    b_MOR = torch.stack([pair.matrices()[1].detach() for pair in pairs]).double()
    scaling_M = torch.tensor([pair.scaling for pair in pairs], dtype=torch.float64)
    if not bool((scaling_M == 1).all()):
        b_MOR = b_MOR * scaling_M[:, None, None]
    return b_MOR, a_MRI


def _views(
    gram_a_MRR: Tensor, gram_b_MRR: Tensor, left_MPR: Tensor, right_MRP: Tensor
) -> dict[str, Tensor]:
    """All views of a stack of modules, each (M, …), from Grams and sketches P^T B and A Q.

    With dW = B A, the Grams G_B = B^T B = L L^T and G_A = A A^T, and M = L^T G_A L, whose
    eigenvalues are the squared singular values of dW: for a spectral function f of dW^T dW,
    dW f(dW^T dW) = f(0) B A + B G_A L psi(M) L^T A with psi(x) = (f(x) - f(0)) / x. No factor is
    ever inverted, so rank deficiency and equal singular values do no harm.
    """
    values_MR, vectors_MRR = torch.linalg.eigh(gram_b_MRR)
    root_MRR = vectors_MRR * values_MR.clamp_min(0).sqrt()[:, None]
    core_MRR = root_MRR.mT @ gram_a_MRR @ root_MRR
    squares_MR, core_vectors_MRR = torch.linalg.eigh((core_MRR + core_MRR.mT) / 2)
    squares_MR = squares_MR.clamp_min(0)
    top_M1 = squares_MR[:, -1:]
    knee_M1 = POLAR_KNEE * torch.where(top_M1 > 0, top_M1, 1.0).sqrt()
    soft_MR = (squares_MR + knee_M1**2).sqrt()
    psi_MR = -1 / (knee_M1 * soft_MR * (knee_M1 + soft_MR))
    half_MRR = root_MRR @ core_vectors_MRR
    linear_MPP = left_MPR @ right_MRP
    correction_MPP = (
        left_MPR @ (gram_a_MRR @ (half_MRR * psi_MR[:, None]) @ half_MRR.mT) @ right_MRP
    )
    polar_MPP = linear_MPP / knee_M1[..., None] + correction_MPP
    return {
        "linear": _unit(linear_MPP.flatten(1)),
        "polar": _unit(polar_MPP.flatten(1)),
        "rows": _unit(_triangle(left_MPR @ gram_a_MRR @ left_MPR.mT)),
        "columns": _unit(_triangle(right_MRP.mT @ gram_b_MRR @ right_MRP)),
        "spread": _spread(squares_MR),
        "seen": _seen(linear_MPP, squares_MR),
        "energy": squares_MR.sum(1),
    }


def _unit(x_MF: Tensor) -> Tensor:
    """Rows of length one; a row of zeros stays."""
    length_M1 = x_MF.norm(dim=1, keepdim=True)
    return x_MF / torch.where(length_M1 > 0, length_M1, 1.0)


def _triangle(gram_MPP: Tensor) -> Tensor:
    """Upper triangle, weighted so that inner products are those of the whole matrices."""
    size = gram_MPP.shape[-1]
    row, column = torch.triu_indices(size, size)
    weight = torch.where(row == column, 1.0, math.sqrt(2.0)).double()
    return gram_MPP[:, row, column] * weight


def _spread(squares_MR: Tensor) -> Tensor:
    """Energy in the first k directions, entropy and participation ratio; free of scale and rank."""
    total_M1 = squares_MR.sum(1, keepdim=True)
    share_MR = (squares_MR / torch.where(total_M1 > 0, total_M1, 1.0)).flip(1)
    running_MR = share_MR.cumsum(1)
    rank = running_MR.shape[1]
    first = torch.stack([running_MR[:, min(k, rank) - 1] for k in ENERGY_RANKS], 1)
    entropy_M = -torch.xlogy(share_MR, share_MR).sum(1)
    participation_M = -share_MR.square().sum(1).clamp_min(1e-12).log()
    return torch.cat([first, torch.stack([entropy_M, participation_M], 1)], 1)


def _seen(linear_MPP: Tensor, squares_MR: Tensor) -> Tensor:
    """log10 of the energy in the frames over all energy, (M, 1); zero for a module of zeros.

    Through the frames of the base that an adapter was trained on, much is seen.
    """
    total_M = squares_MR.sum(1)
    share_M = linear_MPP.square().sum((1, 2)) / torch.where(total_M > 0, total_M, 1.0)
    return torch.where(total_M > 0, share_M.clamp_min(1e-6), 1.0).log10()[:, None]


def _places(names: Sequence[str], sizes_N2: Tensor) -> Tensor:
    """Where a module stands: depth as Fourier features, log widths; no layer number."""
    depths = layer_depths(names)
    depth_N1 = torch.tensor([depths[name] for name in names]).double()[:, None]
    waves = depth_N1 * 2.0 ** torch.arange(_FOURIER_BANDS) * math.pi
    return torch.cat([depth_N1, waves.sin(), waves.cos(), sizes_N2.log2() / 8 - 1], 1)
