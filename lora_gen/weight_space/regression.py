"""A merge that does on each task's inputs what that task's adapter does there.

RegMean (Jin et al. 2023, 2212.09849) fits one weight to all adapters by least squares on their
inputs. Its normal equations need an in x in matrix; here they are solved in the span of the inputs
themselves, a tokens x tokens system, so that the result is factors from the start.

Shapes: T tokens of all adapters together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterMismatchError
from lora_gen.weight_space.factors import Cut, Factors, factors_of, pair_like, relative_error
from lora_gen.weight_space.factors import svd_of as svd_of_factors
from lora_gen.weight_space.merge import Merged

RIDGE = 1e-2
"""Weight of the norm of the delta, relative to the inputs' mean squared length."""


def merge_on_inputs(
    adapters: Sequence[Adapter],
    inputs: Sequence[Mapping[str, Tensor]],
    *,
    rank: int | None = None,
    ridge: float = RIDGE,
) -> Merged:
    """The adapter whose outputs on each adapter's inputs are nearest that adapter's.

    Minimizes sum_i |(delta - delta_i) X_i|^2 + ridge * |delta|^2 for each module; the rank cut is
    by that error on the inputs, not by the norm of the delta.

    Args:
        adapters: Adapters of one base.
        inputs: For each, module path -> what that module reads under it, (tokens, in).
        rank: Largest rank of the result. Default: the sum of the ranks.
        ridge: Pull towards zero, relative to the inputs' mean squared length.

    Raises:
        AdapterMismatchError: Not one set of inputs an adapter, or a module has none.
    """
    if not adapters or len(inputs) != len(adapters):
        raise AdapterMismatchError(
            f"`inputs` has {len(inputs)} sets for {len(adapters)} adapters. Pass one for each."
        )
    rank = sum(adapter.max_rank for adapter in adapters) if rank is None else rank
    names = sorted({name for adapter in adapters for name in adapter.pairs})
    missing = [name for name in names if any(name not in found for found in inputs)]
    if missing:
        raise AdapterMismatchError(
            f"`{missing[0]}` has no inputs ({len(missing)} modules are without). Collect them for "
            "every module that an adapter changes."
        )
    cuts, pairs = {}, {}
    for name in names:
        kind = next(adapter.pairs[name] for adapter in adapters if name in adapter.pairs)
        tokens = [found[name].double() for found in inputs]
        wanted = [
            x_TI @ factors.a.mT @ factors.b.mT
            if (factors := _factors(adapter, name)) is not None
            else x_TI.new_zeros(len(x_TI), kind.out_features)
            for adapter, x_TI in zip(adapters, tokens, strict=True)
        ]
        cuts[name] = regress(torch.cat(tokens), torch.cat(wanted), rank, ridge)
        pairs[name] = pair_like(kind, cuts[name].factors)
    errors = {n: relative_error(c.squared_error, c.squared_norm) for n, c in cuts.items()}
    total = relative_error(
        sum(c.squared_error for c in cuts.values()), sum(c.squared_norm for c in cuts.values())
    )
    return Merged(adapter=replace(adapters[0], pairs=pairs), error=total, module_errors=errors)


def regress(x_TI: Tensor, y_TO: Tensor, rank: int, ridge: float) -> Cut:
    """Factors of the rank-constrained ridge regression from inputs to outputs.

    Reduced-rank regression: the fitted outputs are projected on their own leading directions.
    """
    lengths = x_TI.square().sum() / len(x_TI)
    kernel_TT = x_TI @ x_TI.mT
    kernel_TT.diagonal().add_(ridge * float(lengths))
    dual_TO = torch.linalg.solve(kernel_TT, y_TO)
    fitted_TO = y_TO - ridge * lengths * dual_TO
    _, s_K, vh_KO = torch.linalg.svd(fitted_TO, full_matrices=False)
    kept = min(rank, int((s_K > 1e-9 * s_K[:1]).sum()))
    lead_KO = vh_KO[: max(kept, 1)]
    near = Factors((x_TI.mT @ (dual_TO @ lead_KO.mT)).mT, lead_KO.mT.contiguous())
    u_OK, values_K, v_IK = svd_of_factors(near)
    balanced = Factors((v_IK * values_K.sqrt()).mT, u_OK * values_K.sqrt())
    squared = s_K.square()
    return Cut(balanced, float(squared[kept:].sum()), float(squared.sum()))


def _factors(adapter: Adapter, name: str) -> Factors | None:
    return factors_of(adapter.pairs[name]) if name in adapter.pairs else None
