"""A process of its own that examines what strangers uploaded.

Examining computes spectra, features and neighbors: in the app's own process it would keep the
interpreter from everybody who searches or generates meanwhile. What it takes in memory or time too
much ends this process, not the app.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from app.service.inspection import Inspection, examine
from app.service.uploads import UPLOAD_LIMITS
from app.settings import AppConfig
from lora_gen import errors
from lora_gen.adapter.io import load_adapter
from lora_gen.adapter.peft_format import PROVENANCE_NAME
from lora_gen.errors import AdapterLimitError, LoraGenError

MAX_SECONDS = 60.0
START_SECONDS = 300.0
MAX_ANSWER = 64_000_000
"""Bytes: 20,000 modules with their singular values."""
FIRST_TO_GO = "1000"
"""The kernel's word for who is ended first when memory runs out."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was found, and the ids of the zoo entries nearest by weights with their cosines."""

    inspection: Inspection
    near: tuple[tuple[str, float], ...]


class Examiner:
    """Asks the process, one upload at a time; starts it anew when it has ended.

    Args:
        config: Which zoo, encoder and bases it compares with.
        seconds: Longest time for one upload.
    """

    def __init__(self, config: AppConfig, *, seconds: float = MAX_SECONDS) -> None:
        self._places = (config.generator, config.bases, config.zoo, config.encoder)
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def start(self) -> None:
        """Start the process, and wait until it is warm."""
        with self._lock:
            self._connected()

    def examine(self, path: Path, title: str) -> Examined:
        """The findings on an upload.

        Args:
            path: Its copy, as `receive_adapter` gave it.
            title: What it is called on the page.

        Raises:
            LoraGenError: It is no adapter, or takes too much time or memory.
        """
        with self._lock:
            pipe = self._connected()
            try:
                pipe.send_bytes(json.dumps({"path": str(path), "title": title}).encode())
                answer = self._answer(pipe, self._seconds)
            except (EOFError, OSError) as error:
                self._end()
                raise AdapterLimitError(
                    f"`{title[:80]}` took more than {self._seconds:.0f} s or too much memory to "
                    "examine. Use `lora-gen inspect` on your own machine for such adapters."
                ) from error
        if "error" in answer:
            raise _error_of(str(answer["kind"]), str(answer["error"]))
        near = tuple((str(entry), float(cosine)) for entry, cosine in answer["near"])
        return Examined(inspection=Inspection.from_dict(answer["inspection"]), near=near)

    def close(self) -> None:
        """End the process, if it runs."""
        with self._lock:
            self._end()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    def _connected(self) -> Connection:
        if self._pipe is None or self._process is None or not self._process.is_alive():
            self._end()
            spawn = multiprocessing.get_context("spawn")
            self._pipe, theirs = spawn.Pipe()
            self._process = spawn.Process(target=serve, args=(theirs, *self._places), daemon=True)
            self._process.start()
            theirs.close()
            self._answer(self._pipe, START_SECONDS)
        return self._pipe

    def _answer(self, pipe: Connection, seconds: float) -> dict[str, Any]:
        """What the process says next; it is data, never code.

        Raises:
            EOFError: It says nothing in time, or has ended.
        """
        if not pipe.poll(seconds):
            raise EOFError("the time is over")
        answer: dict[str, Any] = json.loads(pipe.recv_bytes(MAX_ANSWER))
        return answer

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def _error_of(kind: str, sentence: str) -> Exception:
    """The error that the process told of."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, LoraGenError):
        return found(sentence)
    return RuntimeError(f"the examiner failed with {kind}: {sentence}")


def serve(
    pipe: Connection, generator: str, bases: tuple[str, ...], zoo: Path, encoder: Path | None
) -> None:
    """Examine what is asked for, until nobody is left to ask.

    Args:
        pipe: Requests and answers, JSON each.
        generator: Of the app; it is not loaded here.
        bases: That adapters are compared with.
        zoo: To find neighbors in.
        encoder: Predicts quality.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches it too; the app ends it
    if (score := Path("/proc/self/oom_score_adj")).exists():
        score.write_text(FIRST_TO_GO, "ascii")
    sys.stdout = sys.stderr
    examining = _Examining(generator, bases, zoo, encoder)
    pipe.send_bytes(b"{}")
    while True:
        try:
            asked = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send_bytes(json.dumps(examining.answer(**asked)).encode())


class _Examining:
    """The zoo and the encoder of the process."""

    def __init__(
        self, generator: str, bases: tuple[str, ...], zoo: Path, encoder: Path | None
    ) -> None:
        import torch

        from app.service.models import Models
        from app.service.quality import QualityPredictor
        from app.service.zoo_view import ZooView

        torch.set_num_threads(1)
        self._models = Models(generator, bases)
        self._quality = QualityPredictor(encoder, self._models)
        self._zoo = ZooView(zoo)
        self._zoo.map()
        for entry in self._zoo.entries()[:1]:  # what is loaded at first use, nobody waits for
            self.answer(str(self._zoo.path(entry.id)), entry.id)

    def answer(self, path: str, title: str) -> dict[str, Any]:
        """What is said of one upload."""
        try:
            adapter = load_adapter(path, limits=UPLOAD_LIMITS)
            is_generated = (Path(path) / PROVENANCE_NAME).is_file()
            quality = self._quality.of(adapter, is_generated=is_generated, record={})
            found = examine(self._models, Path(path), adapter, title=title, quality=quality)
            near = [(n.entry.id, n.cosine) for n in self._zoo.neighbors(adapter)]
        except Exception as error:
            return {"error": str(error), "kind": type(error).__name__}
        return {"inspection": found.to_dict(), "near": near}
