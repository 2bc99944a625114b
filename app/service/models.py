"""The generator and the bases: loaded once, used by one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.errors import BaseModelError

if TYPE_CHECKING:
    from lora_gen.conditioning.text import TextEncoder
    from lora_gen.evaluation.behavior import TaskRunner
    from lora_gen.evaluation.pictures import PictureRunner
    from lora_gen.pipeline import LoraGenPipeline


Lent = TypeVar("Lent")
LOOK_SECONDS = 0.1


class Models:
    """Lazily loaded models of an app.

    Args:
        generator: Folder or hub id of the generator.
        bases: The only bases that visitors may choose.
        own_generators: Base -> its generator, where that is another one.

    A noise scheduler and the hooks on a base carry state, so each model is lent to one request at
    a time. Loading is one at a time too: Transformers' lazy imports fail when two threads race.
    """

    def __init__(
        self,
        generator: str,
        bases: tuple[str, ...],
        *,
        own_generators: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.bases = bases
        self._generator = generator
        self._own_generators = own_generators
        self._pipelines: dict[str, LoraGenPipeline] = {}
        self._runners: dict[str, TaskRunner] = {}
        self._drawers: dict[str, PictureRunner] = {}
        self._specs: dict[str, BaseModelSpec] = {}
        self._loading = threading.Lock()
        self._sampling = threading.Lock()
        self._answering = threading.Lock()

    def spec(self, base: str) -> BaseModelSpec:
        """What a base is made of.

        Raises:
            BaseModelError: The operator has not allowed it.
        """
        self._require_allowed(base)
        with self._loading:
            if base not in self._specs:
                self._specs[base] = BaseModelSpec.from_config(base)
            return self._specs[base]

    @contextmanager
    def pipeline(
        self, base: str = "", *, look: Callable[[], None] = lambda: None
    ) -> Iterator[LoraGenPipeline]:
        """The generator of a base, or the one of most bases, lent until the block ends.

        Args:
            base: Empty for the one of most bases.
            look: Called again and again while another request has it; may raise to give up.
        """
        while not self._sampling.acquire(timeout=LOOK_SECONDS):
            look()
        try:
            yield self._pipeline(self._own_generators.get(base, self._generator))
        finally:
            self._sampling.release()

    def text_encoder(self) -> TextEncoder:
        """What reads descriptions; it keeps no state between texts, so nobody waits for a run."""
        return self._pipeline(self._generator).encoder

    @contextmanager
    def runner(self, base: str) -> Iterator[TaskRunner]:
        """A base that answers, lent until the block ends.

        Raises:
            BaseModelError: The operator has not allowed it, or it cannot be loaded.
        """
        with self._answering:
            yield self._loaded(self._runners, base, _load_runner)

    @contextmanager
    def drawer(self, base: str) -> Iterator[PictureRunner]:
        """A base that draws, lent until the block ends.

        Raises:
            BaseModelError: The operator has not allowed it, or it cannot be loaded.
        """
        with self._answering:
            yield self._loaded(self._drawers, base, _load_drawer)

    def _loaded(self, known: dict[str, Lent], base: str, load: Callable[[str], Lent]) -> Lent:
        """The model of a base, loaded at the first call."""
        self._require_allowed(base)
        if base not in known:
            with self._loading:
                known[base] = load(base)
        return known[base]

    def _pipeline(self, generator: str) -> LoraGenPipeline:
        """A generator with its text encoder, loaded at the first call."""
        with self._loading:
            if generator not in self._pipelines:
                from lora_gen.pipeline import LoraGenPipeline

                pipeline = LoraGenPipeline.from_pretrained(generator)
                _ = pipeline.encoder
                self._pipelines[generator] = pipeline
            return self._pipelines[generator]

    def _require_allowed(self, base: str) -> None:
        if base not in self.bases:
            raise BaseModelError(
                f"`{base[:80]}` is not a base of this app. It offers {', '.join(self.bases)}."
            )


def _load_runner(base: str) -> TaskRunner:
    from lora_gen.evaluation.behavior import TaskRunner

    return TaskRunner(base)


def _load_drawer(base: str) -> PictureRunner:
    from lora_gen.evaluation.pictures import PictureRunner

    return PictureRunner(base)
