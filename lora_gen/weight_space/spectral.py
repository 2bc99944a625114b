"""Merges on singular vectors: KnOTS, task singular vectors, isotropic; all on small cores.

Shapes: M components of all adapters together, N adapters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lora_gen.weight_space.elementwise import elect
from lora_gen.weight_space.factors import Cut, Factors, Terms, cut, joined, svd_of

_ZERO = 1e-9
"""Singular values below this share of the largest are rounding."""


def linear(terms: Terms) -> Cut:
    """The weighted sum of deltas, exact before the cut to the rank."""
    return cut(joined(terms.factors, terms.weights), terms.rank)


def knots(terms: Terms, density: float) -> Cut:
    """KnOTS-TIES: one left basis for all, then TIES on the aligned right vectors.

    [delta_1 … delta_n] = U S [V_1 … V_n]^T by one joint SVD; the V_i share U's coordinates and are
    trimmed, elected and averaged there (Stoica et al. 2024, 2410.19735). The V_i are in x M, so
    nothing large appears.
    """
    b_OM = torch.cat([one.b for one in terms.factors], dim=1)
    q_OM, left_MM = torch.linalg.qr(b_OM)
    bases, cores = zip(*(torch.linalg.qr(one.a.mT) for one in terms.factors), strict=True)
    right_MM = torch.block_diag(*(core.mT for core in cores))  # type: ignore[no-untyped-call]
    u, s_M, vh = torch.linalg.svd(left_MM @ right_MM, full_matrices=False)
    kept = s_M > _ZERO * s_M[0]
    u, s_M, vh = u[:, kept], s_M[kept], vh[kept]
    parts = vh.split([basis.shape[1] for basis in bases], dim=1)
    v_NIM = torch.stack([basis @ part.mT for basis, part in zip(bases, parts, strict=True)])
    weights_N = torch.tensor(terms.weights, dtype=torch.float64)
    merged_IM = elect(_trimmed(v_NIM, density), weights_N)
    return cut(Factors(merged_IM.mT, q_OM @ u * s_M), terms.rank)


def _trimmed(values_NIM: Tensor, density: float) -> Tensor:
    """Each adapter's largest entries, the rest zero."""
    flat_NK = values_NIM.flatten(1).abs()
    count = max(1, round(density * flat_NK.shape[1]))
    limit_N = flat_NK.topk(count, dim=1).values[:, -1]
    return torch.where(values_NIM.abs() >= limit_N[:, None, None], values_NIM, 0.0)


def task_singular_vectors(terms: Terms) -> Cut:
    """TSV-M: all singular vectors side by side, made orthonormal, with their own singular values.

    The nearest orthonormal frames (Procrustes) take out what tasks share, so that none drowns
    another (Gargiulo et al., CVPR 2025, 2412.00081).
    """
    weights, rank = terms.weights, terms.rank
    most = max(1, min(terms.shape) // len(terms.factors))  # a module has room for so many of each
    found = [tuple(part[..., :most] for part in svd_of(one)) for one in terms.factors]
    u_OM = _orthonormal(torch.cat([u for u, _, _ in found], dim=1))
    v_IM = _orthonormal(torch.cat([v for _, _, v in found], dim=1))
    s_M = torch.cat([s * w for (_, s, _), w in zip(found, weights, strict=True)])
    return cut(Factors(v_IM.mT, u_OM * s_M), rank)


def _orthonormal(columns_OM: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns, by the M x M Gram matrix."""
    values_M, vectors_MM = torch.linalg.eigh(columns_OM.mT @ columns_OM)
    kept = values_M > _ZERO * values_M[-1]
    root_M = torch.where(kept, values_M.clamp_min(1e-300).rsqrt(), 0.0)
    near_OM: Tensor = columns_OM @ (vectors_MM * root_M) @ vectors_MM.mT
    return near_OM


def isotropic(terms: Terms) -> Cut:
    """Iso-C: the sum's singular directions, each with their mean singular value.

    Directions that few tasks share weigh as much as common ones (Marczak et al. 2025, 2502.04959).
    The mean is over the directions that the sum has.
    """
    u_OM, s_M, v_IM = svd_of(joined(terms.factors, terms.weights))
    kept = s_M > _ZERO * s_M[:1]
    if not bool(kept.any()):
        return cut(joined(terms.factors, terms.weights), terms.rank)
    mean, count = float(s_M[kept].mean()), int(kept.sum())
    first = min(terms.rank, count)  # cut by the sum's own order: equal values have none
    near = Factors(v_IM[:, :first].mT, u_OM[:, :first] * mean)
    return Cut(near, (count - first) * mean**2, count * mean**2)
