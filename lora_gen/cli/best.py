"""`lora-gen generate --best`: of several candidates, the one that explains the examples best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_gen.errors import ConditionError

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter


def require_choice(num: int, examples: Sequence[tuple[str, str]] | None) -> None:
    """Check that there is something to choose from, and to choose by.

    Raises:
        ConditionError: There is one candidate, or there are no examples.
    """
    if num < 2:
        raise ConditionError(
            f"`--best` chooses among candidates, but `--num` is {num}. Ask for at least 2."
        )
    if not examples:
        raise ConditionError("`--best` chooses by examples, and there are none. Add `--examples`.")


def best_of(
    adapters: Sequence[Adapter],
    provenance: Sequence[dict[str, Any]],
    examples: Sequence[tuple[str, str]],
) -> tuple[list[Adapter], list[dict[str, Any]]]:
    """The best candidate and its record, which says among how many it was chosen."""
    from lora_gen.conditioning.chat import load_causal_lm
    from lora_gen.evaluation.choice import best_by_examples

    best = best_by_examples(*load_causal_lm(provenance[0]["base"]), adapters, examples)[0]
    return [adapters[best]], [{**provenance[best], "chosen_among": len(adapters)}]
