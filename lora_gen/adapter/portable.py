"""The portable profile, and which runtime would refuse an adapter.

Uniform rank from 8, 16, 32, 64, `lora_alpha == r` with the scale inside B, no patterns: then every runtime reads the
same delta weight, also those that ignore rsLoRA, `alpha_pattern`, or parse alpha as an unsigned integer.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.errors import AdapterMismatchError

PORTABLE_RANKS = (8, 16, 32, 64)


def to_portable(adapter: Adapter) -> Adapter:
    """The same delta weights with one portable rank (zero padding) and scaling 1.

    Raises:
        AdapterMismatchError: The rank is beyond the largest portable one, or the base has no name.
    """
    rank = next((rank for rank in PORTABLE_RANKS if rank >= adapter.max_rank), None)
    if rank is None:
        raise AdapterMismatchError(
            f"The adapter has rank {adapter.max_rank}, and portable ranks are {', '.join(map(str, PORTABLE_RANKS))}. "
            "Reduce it with `truncate(adapter, 64)`, or write it with `exact=True`."
        )
    if not adapter.base:
        raise AdapterMismatchError(
            "The adapter names no base, and the portable profile needs its id. Pass `base`, or write it with "
            "`exact=True`."
        )
    return replace(adapter, pairs={n: padded(p.folded(), rank) for n, p in adapter.pairs.items()})


def padded(pair: LoraPair, rank: int) -> LoraPair:
    """The same delta weight with `rank` factors, the new ones zero."""
    missing = rank - pair.rank
    if missing <= 0:
        return pair
    a_RI, b_OR = pair.matrices()
    return pair.with_matrices(
        torch.cat((a_RI, a_RI.new_zeros(missing, a_RI.shape[1]))),
        torch.cat((b_OR, b_OR.new_zeros(b_OR.shape[0], missing)), dim=1),
        scaling=pair.scaling,
    )
