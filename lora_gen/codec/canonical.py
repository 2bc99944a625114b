"""Gauge fixing: the one member of an adapter's orbit that is stored and learned from."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair, require_finite


def canonicalize(adapter: Adapter) -> Adapter:
    """The adapter in canonical gauge: see `canonicalize_pair`.

    Raises:
        AdapterValueError: A factor is not finite.
    """
    require_finite(adapter)
    return replace(adapter, pairs={name: canonicalize_pair(p) for name, p in adapter.pairs.items()})


def canonicalize_pair(pair: LoraPair) -> LoraPair:
    """The one pair of the gauge orbit that the zoo learns from, with scaling 1.

    (B @ G, inv(G) @ A) is the same delta weight for every invertible G, so equal adapters can look
    unrelated. The canonical pair is the singular value decomposition of the delta with the singular
    values shared evenly between B and A, largest first, and the sign that makes each column sum of
    B positive. It is found on the r x r core of two QR factorizations.

    Args:
        pair: Factors A (R, in), B (out, R), or a Conv2d's.

    Returns:
        A pair of the same rank, shape and dtype; directions beyond the delta's rank are exactly
            zero.
    """
    a_RI, b_OR = (matrix.double() for matrix in pair.matrices())
    q_OK, left_KR = torch.linalg.qr(b_OR * pair.scaling)
    p_IL, right_LR = torch.linalg.qr(a_RI.mT)
    u, s_K, vh = torch.linalg.svd(left_KR @ right_LR.mT, full_matrices=False)
    s_K = torch.where(s_K > s_K.max() * 1e-7, s_K, 0.0)
    left_OK, right_KI = q_OK @ u * s_K.sqrt(), s_K.sqrt()[:, None] * (vh @ p_IL.mT)
    sign_K = _sign_of_sums(left_OK)
    left_OR = _padded(left_OK * sign_K, pair.rank)
    right_RI = _padded((right_KI * sign_K[:, None]).mT, pair.rank).mT
    dtype = pair.lora_a.dtype
    return pair.with_matrices(right_RI.to(dtype).contiguous(), left_OR.to(dtype).contiguous())


def _sign_of_sums(columns_OR: Tensor) -> Tensor:
    """+1 or -1 for each column; the largest-entry rule flips under 3% noise, this one does not."""
    return torch.where(columns_OR.sum(0) < 0, -1.0, 1.0).to(columns_OR.dtype)


def _padded(columns: Tensor, rank: int) -> Tensor:
    """Columns beyond what the shapes allow (rank above out or in features) are zero."""
    return torch.nn.functional.pad(columns, (0, rank - columns.shape[1]))
