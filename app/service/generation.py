"""From a request to adapters, step by step, so that a page can show them taking shape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from queue import Queue
from typing import Any

import torch
from torch import Tensor, nn

from app.service import limits
from app.service.models import Models
from app.service.sessions import CancelledError
from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import module_norms
from lora_gen.errors import ConditionError


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What a visitor asks the generator for.

    Raises:
        LoraGenError: A value is not usable; the sentence names it.
    """

    description: str | None = None
    prompts: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    base: str = "tiny_lm"
    rank: int = 4
    targets: str = limits.AS_TRAINED
    candidates: int = 1
    steps: int = 4
    guidance: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        keep = object.__setattr__
        asked_otherwise = bool(self.prompts or self.examples)
        text = limits.description(self.description, required=not asked_otherwise)
        keep(self, "description", text)
        inputs = limits.inputs(self.prompts, name="prompts", most=limits.MAX_ROWS)
        keep(self, "prompts", tuple(inputs))
        keep(self, "examples", tuple(limits.pairs(self.examples)))
        keep(self, "targets", limits.one_of("targets", self.targets, limits.TARGETS))
        for name, low, high in (
            ("rank", 1, limits.MAX_RANK),
            ("candidates", 1, limits.MAX_CANDIDATES),
            ("steps", 1, limits.MAX_STEPS),
            ("seed", 0, 2**53 - 1),  # beyond, a browser's numbers are not whole
        ):
            keep(self, name, limits.whole(name, getattr(self, name), low, high))
        keep(self, "guidance", limits.bounded("guidance", self.guidance, 0, 20))
        if not (text or self.prompts or self.examples):
            raise ConditionError("Nothing was asked. Describe the task, or give examples of it.")

    @property
    def chosen_targets(self) -> str | None:
        """Which modules, as the pipeline takes it."""
        return None if self.targets == limits.AS_TRAINED else self.targets


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the first candidate looks after a sampler step."""

    step: int
    steps: int
    adapter: Callable[[], Adapter]
    """Decoded only for those who look: it takes a fifth of the sampling."""

    @cached_property
    def norms(self) -> Mapping[str, float]:
        """Module path -> Frobenius norm of its delta weight."""
        return module_norms(self.adapter())


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """The finished candidates, and how each was made."""

    adapters: tuple[Adapter, ...]
    records: tuple[Mapping[str, Any], ...]


def sample(
    models: Models, request: GenerateRequest, cancelled: threading.Event
) -> Iterator[Shape | Sampled]:
    """The shape after each step, and at last the adapters.

    Closing the iterator, or setting `cancelled`, stops the sampler within one layer.

    Raises:
        LoraGenError: The generator refuses the request.
        CancelledError: `cancelled` was set meanwhile.
    """
    updates: Queue[Shape | Sampled | BaseException] = Queue()
    worker = threading.Thread(target=_work, args=(models, request, cancelled, updates))
    worker.start()
    try:
        while True:
            update = updates.get()
            while not updates.empty():
                update = updates.get()
            if isinstance(update, BaseException):
                raise update
            if cancelled.is_set():  # even when the sampler was faster than the click
                raise CancelledError
            yield update
            if isinstance(update, Sampled):
                return
    finally:
        cancelled.set()
        worker.join()


def _work(
    models: Models,
    request: GenerateRequest,
    cancelled: threading.Event,
    updates: Queue[Shape | Sampled | BaseException],
) -> None:
    """Sample in a thread of its own; whatever ends it is put where the visitor waits."""
    try:
        spec = models.spec(request.base)

        def look() -> None:
            if cancelled.is_set():
                raise CancelledError

        lent = models.pipeline(request.base, look=look)
        with lent as pipe, before_every_layer(pipe.denoiser, look):
            codec = pipe.codec_for(spec, rank=request.rank, targets=request.chosen_targets)

            def tell(_: Any, step: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
                look()
                decode = partial(codec.decode, tensors["clean"][0].detach().cpu().clone())
                updates.put(Shape(step=step + 1, steps=request.steps, adapter=decode))
                return {}

            output = pipe(
                text=request.description,
                prompts=list(request.prompts) or None,
                examples=list(request.examples) or None,
                base=spec,
                rank=request.rank,
                targets=request.chosen_targets,
                num_adapters=request.candidates,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                generator=torch.Generator().manual_seed(request.seed),
                callback_on_step_end=tell,
            )
        sampled = Sampled(adapters=tuple(output.adapters), records=tuple(output.provenance))
        updates.put(sampled)
    except BaseException as error:
        updates.put(error)


@contextmanager
def before_every_layer(model: nn.Module, call: Callable[[], None]) -> Iterator[None]:
    """Calls `call` before each layer that runs in the block; a single step may take seconds."""
    hooks = [module.register_forward_pre_hook(lambda *_: call()) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
