"""Fine-tune any adapter on a few examples with PEFT: the one place where PEFT itself runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import AdapterMismatchError, BaseModelError
from lora_gen.evaluation.fitting import FitConfig, Pairs, answer_loss, draws, fit


@dataclass(frozen=True, kw_only=True)
class Refined:
    """A fine-tuned adapter and how its loss fell."""

    adapter: Adapter
    losses: tuple[float, ...]
    """Cross entropy a token of the answer, one a step."""


def refine(
    adapter: Adapter,
    examples: Pairs,
    *,
    base: str | Path | None = None,
    config: FitConfig | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Refined:
    """The adapter after fine-tuning on input-output pairs, with PEFT on its base.

    Its scaling is folded into B first: Adam's steps would otherwise depend on a convention.

    Args:
        adapter: Where to start: generated, trained or fresh. It is not changed.
        examples: Pairs of the task.
        base: The base; the one the adapter names by default.
        config: Steps, learning rate and batch.
        on_step: Called with the number of steps taken, before the first and after each.

    Raises:
        BaseModelError: No base is named, or it is no causal language model.
        AdapterMismatchError: The adapter does not fit the base.
        ConfigError: There are no examples, or the loss diverged.
    """
    from peft import PeftModel

    name = base or adapter.base
    if name is None:
        raise BaseModelError("The adapter does not name its base. Pass `base=`.")
    config = config or FitConfig()
    model, chat = load_causal_lm(name)
    draw = draws(chat, [examples], config)
    folded = replace(adapter, pairs={n: pair.folded() for n, pair in adapter.pairs.items()})
    with tempfile.TemporaryDirectory() as folder:
        start = save_adapter(folded, Path(folder) / "start", exact=True)
        _require_modules(model, adapter)
        tuned: Any = PeftModel.from_pretrained(model, str(start), is_trainable=True)

        def loss_of(step: int) -> Tensor:
            lines = draw()
            logits = tuned(input_ids=lines.input_ids, use_cache=False).logits
            return answer_loss(logits, lines.labels)

        trained = [p for p in tuned.parameters() if p.requires_grad]
        losses = fit(trained, loss_of, config, on_step)
        tuned.save_pretrained(str(Path(folder) / "end"))
        end = load_adapter(Path(folder) / "end")
    refined = replace(
        end,
        base=adapter.base or str(name),
        base_revision=adapter.base_revision,
        task_type=adapter.task_type,
    )
    return Refined(adapter=refined, losses=tuple(losses))


def _require_modules(model: Any, adapter: Adapter) -> None:
    """Check the targets here: PEFT only warns when an adapter's weights find no module."""
    names = {name for name, _ in model.named_modules()}
    missing = sorted(set(adapter.pairs) - names)
    if missing:
        raise AdapterMismatchError(
            f"`{missing[0]}` is not a module of the base ({len(missing)} of {len(adapter.pairs)} "
            "targets are missing). Use an adapter made for this base."
        )
