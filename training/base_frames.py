"""Frames of a base from probe lines: what goes into its modules and what its loss asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.conditioning.chat import IGNORE, Lines, load_causal_lm
from lora_gen.retrieval.base_frames import BaseFrames, main_directions

_AT_ONCE = 50


class _Moments:
    """Second moments of a module's inputs and of the gradients of its outputs."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.inputs, self.gradients = name, 0, 0  # type: Any, Any, Any
        self.mask = torch.zeros(0, dtype=torch.bool)
        self.handle = module.register_forward_hook(self._forward)

    def _forward(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x_TI = inputs[0].detach()[self.mask].double()
        self.inputs = self.inputs + x_TI.mT @ x_TI
        output.register_hook(self._backward)  # type: ignore[no-untyped-call]

    def _backward(self, gradient: Tensor) -> None:
        g_TO = gradient.flatten(0, 1).double()
        self.gradients = self.gradients + g_TO.mT @ g_TO


def fit_base_frames(base: str, pairs: Sequence[tuple[str, str]], *, sketch: int = 32) -> BaseFrames:
    """The frames of all linear modules of a base, from (input, output) pairs.

    Args:
        base: Id or folder of a causal language model.
        pairs: Probe lines; only where outputs are predicted do inputs count.
        sketch: Directions in a frame.

    Raises:
        BaseModelError: There is no causal language model.
    """
    model, chat = load_causal_lm(base)
    known = dict(model.named_modules())
    names = select_targets(BaseModelSpec.from_config(base), "all-linear")
    moments = [_Moments(name, known[name]) for name in names]
    lines = [chat.line(*pair) for pair in pairs]
    try:
        for start in range(0, len(lines), _AT_ONCE):
            _accumulate(model, moments, chat.pack(lines[start : start + _AT_ONCE]))
    finally:
        for one in moments:
            one.handle.remove()
    frames = {}
    for one in moments:
        frames[f"{one.name}/in"] = main_directions(one.inputs, sketch)
        frames[f"{one.name}/out"] = main_directions(one.gradients, sketch)
    return BaseFrames(frames)


def _accumulate(model: Any, moments: Sequence[_Moments], lines: Lines) -> None:
    targets = lines.labels[:, 1:]
    for one in moments:
        one.mask = nn.functional.pad(targets != IGNORE, (0, 1))
    embedded = model.get_input_embeddings()(lines.input_ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, use_cache=False).logits[:, :-1]
    loss = nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    loss.backward()  # type: ignore[no-untyped-call]
