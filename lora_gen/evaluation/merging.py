"""Adapters merged on what each of them does with a few of its own inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import AdapterMismatchError, BaseModelError
from lora_gen.evaluation.fitting import Pairs
from lora_gen.evaluation.module_inputs import module_inputs
from lora_gen.weight_space.merge import Merged
from lora_gen.weight_space.regression import merge_on_inputs

TOKENS = 128
"""Tokens of each adapter that the merge is fitted on."""


def merge_on_examples(
    adapters: Sequence[Adapter],
    examples: Sequence[Pairs],
    *,
    base: str | Path | None = None,
    rank: int | None = None,
    tokens: int = TOKENS,
) -> Merged:
    """One adapter that does on each adapter's inputs what that adapter does there.

    Args:
        adapters: Adapters of one base.
        examples: Input-output pairs of each; two dozen are enough.
        base: The base; the one the first adapter names by default.
        rank: Largest rank of the result. Default: the sum of the ranks.
        tokens: Tokens of each adapter that are used.

    Raises:
        AdapterMismatchError: Not one set of pairs for each adapter, or an adapter does not fit.
        BaseModelError: No base is named, or it is no causal language model.
    """
    if not adapters or len(examples) != len(adapters) or not all(examples):
        raise AdapterMismatchError(
            f"`examples` has {len(examples)} sets for {len(adapters)} adapters. Pass pairs for "
            "each."
        )
    name = base or adapters[0].base
    if name is None:
        raise BaseModelError("The adapters do not name their base. Pass `base=`.")
    model, chat = load_causal_lm(name)
    names = {name for adapter in adapters for name in adapter.pairs}
    read = []
    for adapter, pairs in zip(adapters, examples, strict=True):
        lines = chat.pack([chat.line(*pair) for pair in pairs])
        factors = stack_adapters([adapter])
        read.append(module_inputs(model, lines, factors, modules=names, limit=tokens))
    return merge_on_inputs(adapters, read, rank=rank)
