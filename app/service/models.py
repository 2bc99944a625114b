"""The generator and the bases: loaded once, used by one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.errors import BaseModelError

if TYPE_CHECKING:
    from lora_gen.evaluation.behavior import TaskRunner
    from lora_gen.pipeline import LoraGenPipeline


class Models:
    """Lazily loaded models of an app.

    A noise scheduler and the hooks on a base carry state, so each model is lent to one request at
    a time. Loading is one at a time too: Transformers' lazy imports fail when two threads race.
    """

    def __init__(self, generator: str, bases: tuple[str, ...]) -> None:
        self.bases = bases
        self._generator = generator
        self._pipeline: LoraGenPipeline | None = None
        self._runners: dict[str, TaskRunner] = {}
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
    def pipeline(self) -> Iterator[LoraGenPipeline]:
        """The generator, lent until the block ends."""
        with self._sampling:
            if self._pipeline is None:
                self._pipeline = self._load_pipeline()
            yield self._pipeline

    @contextmanager
    def runner(self, base: str) -> Iterator[TaskRunner]:
        """A base that answers, lent until the block ends.

        Raises:
            BaseModelError: The operator has not allowed it, or it cannot be loaded.
        """
        self._require_allowed(base)
        with self._answering:
            if base not in self._runners:
                self._runners[base] = self._load_runner(base)
            yield self._runners[base]

    def _load_pipeline(self) -> LoraGenPipeline:
        """The generator and its text encoder."""
        with self._loading:
            from lora_gen.pipeline import LoraGenPipeline

            pipeline = LoraGenPipeline.from_pretrained(self._generator)
            _ = pipeline.encoder
            return pipeline

    def _load_runner(self, base: str) -> TaskRunner:
        with self._loading:
            from lora_gen.evaluation.behavior import TaskRunner

            return TaskRunner(base)

    def _require_allowed(self, base: str) -> None:
        if base not in self.bases:
            raise BaseModelError(
                f"`{base[:80]}` is not a base of this app. It offers {', '.join(self.bases)}."
            )
