"""The portable profile: the form of an adapter that every runtime reads alike.

Uniform rank from 8, 16, 32, 64, `lora_alpha == r` with the scale inside B, no patterns: then every
runtime reads the same delta weight, also those that ignore rsLoRA, `alpha_pattern`, or parse alpha
as an unsigned integer.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.errors import AdapterMismatchError, AdapterValueError

PORTABLE_RANKS = (8, 16, 32, 64)


def to_portable(adapter: Adapter) -> Adapter:
    """The same delta weights with one portable rank (zero padding) and scaling 1.

    Raises:
        AdapterMismatchError: The rank is beyond the largest portable one, or the base has no name.
    """
    rank = portable_rank(adapter.max_rank)
    if not adapter.base:
        raise AdapterMismatchError(
            "The adapter names no base, and the portable profile needs its id. Pass `base`, or "
            "write it with "
            "`exact=True`."
        )
    return replace(adapter, pairs={n: padded(p.folded(), rank) for n, p in adapter.pairs.items()})


def portable_rank(rank: int) -> int:
    """The smallest portable rank that holds `rank`.

    Raises:
        AdapterMismatchError: It is beyond the largest one.
    """
    found = next((portable for portable in PORTABLE_RANKS if portable >= rank), None)
    if found is None:
        raise AdapterMismatchError(
            f"The adapter has rank {rank}, and portable ranks are "
            f"{', '.join(map(str, PORTABLE_RANKS))}. "
            "Reduce it with `truncate(adapter, 64)`, or write it with `exact=True`."
        )
    return found


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


def cast_factors(adapter: Adapter, dtype: torch.dtype | None) -> Adapter:
    """The adapter with contiguous CPU factors in `dtype`; None only turns float64 to float32.

    Raises:
        AdapterValueError: A value overflows `dtype`.
    """
    pairs = {}
    for name, pair in adapter.pairs.items():
        own = torch.promote_types(pair.lora_a.dtype, pair.lora_b.dtype)
        target = dtype or (torch.float32 if own == torch.float64 else own)
        factors = {
            side: getattr(pair, side).detach().to("cpu", target).contiguous()
            for side in ("lora_a", "lora_b")
        }
        for side, tensor in factors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise AdapterValueError(
                    f"`{name}.{side}` overflows {target}. Write it as bfloat16 or float32."
                )
        pairs[name] = replace(pair, **factors)
    return replace(adapter, pairs=pairs)
