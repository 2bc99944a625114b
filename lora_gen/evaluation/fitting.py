"""Fine-tuning LoRA factors on a few examples: one loop for one adapter and for many at once."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.adapter.stacked import StackedFactors, stacked_adapters
from lora_gen.conditioning.chat import IGNORE, Chat, Lines
from lora_gen.errors import ConfigError

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How an adapter is fine-tuned. The defaults are what `tiny_lm`'s own zoo was trained with."""

    steps: int = 48
    """Optimizer steps."""
    lr: float = 1e-2
    """Adam's learning rate at its peak; it falls linearly to a tenth."""
    warmup: int = 5
    """Steps until the peak."""
    batch: int = 4
    """Examples drawn for each adapter and step."""
    seed: int = 0
    """Draws the examples."""

    def __post_init__(self) -> None:
        for name in ("steps", "warmup"):
            if getattr(self, name) < 0:
                raise ConfigError(f"`{name}` is {getattr(self, name)}; it must be 0 or more.")
        if self.batch < 1:
            raise ConfigError(f"`batch` is {self.batch}; it must be 1 or more.")
        if not 0 < self.lr <= 1:
            raise ConfigError(f"`lr` is {self.lr}; it must be above 0 and at most 1.")

    def lr_at(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.lr * rise * (1 - 0.9 * step / max(self.steps, 1))


def fit(
    parameters: Iterable[Tensor],
    loss_of: Callable[[int], Tensor],
    config: FitConfig,
    on_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Adam steps on `loss_of(step)`.

    Args:
        parameters: What is changed, in place.
        loss_of: The loss of a step.
        config: Number of steps and learning rate.
        on_step: Called with the number of steps taken, before the first and after each.

    Returns:
        The losses.

    Raises:
        ConfigError: The loss is no longer finite.
    """
    optimizer = torch.optim.Adam(parameters, lr=config.lr)
    losses = []
    if on_step is not None:
        on_step(0)
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.lr_at(step)
        loss = loss_of(step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ConfigError(f"The loss is {value} at step {step}. Lower `lr`.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(value)
        if on_step is not None:
            on_step(step + 1)
    return losses


def answer_loss(logits: Tensor, labels: Tensor, adapters: int = 1) -> Tensor:
    """Cross entropy a token of the answers, summed over adapters.

    Each adapter's mean is its own, so many at once take the steps that each would take alone.
    """
    flat = nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1),
        labels[:, 1:].flatten(),
        reduction="none",
        ignore_index=IGNORE,
    )
    counted = (labels[:, 1:] != IGNORE).view(adapters, -1).sum(1)
    return (flat.view(adapters, -1).sum(1) / counted).sum()


def draws(chat: Chat, data: Sequence[Pairs], config: FitConfig) -> Callable[[], Lines]:
    """A function that draws the next batch: `config.batch` lines of each adapter, adapter-major.

    Every adapter draws from its own stream, whatever it is stacked with.

    Raises:
        ConfigError: An adapter has no examples.
    """
    if not all(data):
        raise ConfigError("`examples` is empty, so there is nothing to fine-tune on. Pass pairs.")
    streams = [random.Random(config.seed) for _ in data]
    lines = [[chat.line(*pair) for pair in pairs] for pairs in data]

    def draw() -> Lines:
        chosen = zip(streams, lines, strict=True)
        return chat.pack([x for rng, own in chosen for x in rng.choices(own, k=config.batch)])

    return draw


def fit_stack(
    model: nn.Module,
    chat: Chat,
    factors: StackedFactors,
    data: Sequence[Pairs],
    config: FitConfig,
    *,
    on_step: Callable[[int, StackedFactors], None] | None = None,
    autocast: bool = False,
) -> StackedFactors:
    """Many adapters fine-tuned at once on one frozen base, each on its own examples.

    Args:
        model: The frozen base.
        chat: How it is asked.
        factors: Where the adapters start; not changed.
        data: Examples, one list an adapter.
        config: Steps and learning rate.
        on_step: Called with the number of steps taken and the factors then.
        autocast: Compute in bfloat16 where that is safe; about three times as fast on a CPU.
    """
    own = {
        name: (a.detach().clone().requires_grad_(), b.detach().clone().requires_grad_())
        for name, (a, b) in factors.items()
    }
    draw = draws(chat, data, config)

    def loss_of(step: int) -> Tensor:
        lines = draw()
        with (
            stacked_adapters(model, own),
            torch.autocast(lines.input_ids.device.type, torch.bfloat16, enabled=autocast),
        ):
            logits = model(input_ids=lines.input_ids, use_cache=False).logits
        return answer_loss(logits, lines.labels, len(data))

    def observe(step: int) -> None:
        if on_step is not None:
            on_step(step, {name: (a.detach(), b.detach()) for name, (a, b) in own.items()})

    fit([factor for pair in own.values() for factor in pair], loss_of, config, observe)
    return {name: (a.detach(), b.detach()) for name, (a, b) in own.items()}


def fresh_adapter(spec: BaseModelSpec, *, rank: int, seed: int = 0) -> Adapter:
    """PEFT's own start: A uniform within 1/sqrt(in) (Kaiming), B zero."""
    source = torch.Generator().manual_seed(seed)
    pairs = {}
    for name in select_targets(spec, "all-linear"):
        a_shape, b_shape = spec.modules[name].factor_shapes(rank)
        bound = 1 / math.sqrt(math.prod(a_shape[1:]))
        uniform = torch.rand(a_shape, generator=source) * 2 - 1
        pairs[name] = LoraPair(lora_a=uniform * bound, lora_b=torch.zeros(b_shape))
    return Adapter(pairs=pairs, base=spec.id, task_type=spec.task_type)
