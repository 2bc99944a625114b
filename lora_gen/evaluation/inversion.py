"""Which words does a generator need to make this adapter? Then other words, and the adapter moves.

The adapter's own answers say what it does. Of candidate descriptions, the one is found whose
generated adapter gives these answers most likely; then its token states are moved by gradient, as
words that no text has, until the generated adapter does nearly the same. With the words known, an
edit is what the generator changes between old and new words, added to the adapter: what the words
do not say of it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import cross_gram, norm
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.stacked import stacked_adapters
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.chat import Chat
from lora_gen.conditioning.condition import Condition, base_condition
from lora_gen.errors import ConditionError
from lora_gen.evaluation.behavior import TaskRunner
from lora_gen.evaluation.choice import example_losses
from lora_gen.evaluation.fitting import Pairs, answer_loss
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.weight_space.merge import Merged, merge_adapters
from lora_gen.zoo.store import Zoo

STEPS, RATE = 30, 3e-2
_TOGETHER = 16


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Words under which a generator makes an adapter that acts like a given one."""

    text: str
    """The candidate description that comes nearest."""
    states: Tensor
    """Its token states after the gradient steps, (1, K, C)."""
    adapter: Adapter
    """What the generator makes of these states."""
    losses: tuple[float, ...]
    """Nats a token of the given adapter's answers, before each step."""


def own_answers(
    adapter: Adapter, prompts: Sequence[str], *, base: str
) -> tuple[tuple[str, str], ...]:
    """What the base with the adapter answers: examples of the task that it does."""
    answers = TaskRunner(base).answer(prompts, adapter)
    return tuple((asked, answer) for asked, answer in zip(prompts, answers, strict=True) if answer)


def candidate_words(zoo: Zoo, adapters: Sequence[Adapter], *, count: int = 32) -> list[list[str]]:
    """For each adapter, the first descriptions of the seen entries nearest to it by delta weights.

    Args:
        zoo: Where to look.
        adapters: What is to be described.
        count: Entries for each.
    """
    entries = [entry for entry in zoo.entries(split="seen") if entry.descriptions]
    known = [zoo.load(entry.id) for entry in entries]
    lengths = torch.tensor([norm(adapter) for adapter in known], dtype=torch.float64)
    cosines = cross_gram(known, adapters) / lengths.clamp_min(1e-300)[:, None]
    near = cosines.argsort(0, descending=True)[:count].mT.tolist()
    return [list(dict.fromkeys(entries[i].descriptions[0] for i in row)) for row in near]


def nearest_words(
    pipe: LoraGenPipeline,
    base: tuple[nn.Module, Chat],
    texts: Sequence[str],
    examples: Pairs,
    *,
    spec: BaseModelSpec,
) -> list[tuple[str, float]]:
    """The descriptions, nearest first, each with the loss of its generated adapter on the examples.

    Args:
        pipe: The generator.
        base: The base and how it is asked.
        texts: Candidate descriptions, of a zoo or made up.
        examples: What the given adapter answers.
        spec: The base.

    Raises:
        ConditionError: There are no texts or no examples.
    """
    if not texts:
        raise ConditionError("There is no candidate description. Pass at least one.")
    found: list[tuple[str, float]] = []
    for start in range(0, len(texts), _TOGETHER):
        part = texts[start : start + _TOGETHER]
        made = [_generated(pipe, text, spec) for text in part]
        found += zip(part, example_losses(*base, made, examples).tolist(), strict=True)
    return sorted(found, key=lambda one: one[1])


def invert(
    pipe: LoraGenPipeline,
    base: tuple[nn.Module, Chat],
    text: str,
    examples: Pairs,
    *,
    spec: BaseModelSpec,
    rank: int = 4,
    steps: int = STEPS,
) -> Inversion:
    """Token states, starting at a text's, under which the generator makes what the examples show.

    Args:
        pipe: The generator; it is not changed.
        base: The base and how it is asked.
        text: Where to start; see `nearest_words`.
        examples: What the given adapter answers.
        spec: The base.
        rank: Rank of the generated adapter.
        steps: Gradient steps.

    Raises:
        ConditionError: There are no examples, or the text cannot be encoded.
    """
    if not examples:
        raise ConditionError("`examples` is empty, so nothing says what to reproduce. Pass some.")
    model, chat = base
    lines = chat.pack([chat.line(*pair) for pair in examples])
    config = pipe.denoiser.config
    layout = TokenLayout.build(
        spec, rank=rank, width=config.token_width, targets=tuple(config.targets) or "all-linear"
    )
    codec = AdapterCodec(layout=layout, scaling=pipe.denoiser.token_scaling)
    states_1KC = pipe.encoder.encode([text]).states.clone().requires_grad_()
    optimizer = torch.optim.Adam([states_1KC], lr=RATE)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        factors = codec.factors(_tokens(pipe, codec, states_1KC, spec))
        with stacked_adapters(model, factors):
            logits = model(input_ids=lines.input_ids, use_cache=False).logits
        loss = answer_loss(logits, lines.labels)
        losses.append(float(loss.detach()))
        (states_1KC.grad,) = torch.autograd.grad(loss, [states_1KC])
        optimizer.step()
    with torch.no_grad():
        tokens = _tokens(pipe, codec, states_1KC, spec)[0]
    adapter = codec.decode(tokens, base=spec.id, task_type=spec.task_type)
    return Inversion(text=text, states=states_1KC.detach(), adapter=adapter, losses=tuple(losses))


def reworded(
    pipe: LoraGenPipeline,
    adapter: Adapter,
    old: str | Adapter,
    new: str,
    *,
    spec: BaseModelSpec,
    strength: float = 1.0,
    rank: int | None = None,
) -> Merged:
    """The adapter moved by what the generator changes from the old words to the new ones.

    Args:
        pipe: The generator.
        adapter: What is edited.
        old: Words for what it does, or what `invert` made of it.
        new: Words for what it should do.
        spec: The base.
        strength: 1 for the whole change.
        rank: Largest rank of the result. Default: all that the sum needs.

    Raises:
        AdapterMismatchError: The adapter is of another base.
    """
    before = _generated(pipe, old, spec) if isinstance(old, str) else old
    after = _generated(pipe, new, spec)
    return merge_adapters([adapter, after, before], [1.0, strength, -strength], rank=rank)


def _generated(pipe: LoraGenPipeline, text: str, spec: BaseModelSpec) -> Adapter:
    noise = torch.Generator().manual_seed(0)
    made: Adapter = pipe(text, base=spec, generator=noise).adapters[0]
    return made


def _tokens(
    pipe: LoraGenPipeline, codec: AdapterCodec, states_1KC: Tensor, spec: BaseModelSpec
) -> Tensor:
    """Clean tokens in one step from a fixed noise, differentiable; (1, N, D + 1)."""
    denoiser, layout = pipe.denoiser, codec.layout
    shape = (1, layout.num_tokens, layout.width + 1)
    noise_BND = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    condition = Condition(
        text_states=states_1KC,
        text_mask=torch.ones(states_1KC.shape[:2], dtype=torch.bool),
        base_features=base_condition(spec, 1),
        latent=denoiser.latent_of(noise_BND),
    )
    prototype = denoiser.prototype(condition, layout)
    tokens: Tensor = denoiser.clean(noise_BND, torch.ones(1), prototype)
    return tokens
