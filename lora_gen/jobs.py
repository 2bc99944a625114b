"""Independent jobs in worker processes, on this machine or on a Ray cluster.

A worker that dies costs the job it held one attempt, and nothing else. What a job returned is
handed over in the caller's process, so that one process alone writes to a store.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from lora_gen.errors import ConfigError, LoraGenError, MissingDependencyError

Executor = Literal["local", "ray"]
EXECUTORS: tuple[Executor, ...] = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """How one job ended."""

    name: str
    value: Any = None
    """What the function returned; None when it failed."""
    error: str | None = None
    """Why it failed, after its last attempt."""
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Where jobs run, and how often they are tried."""

    executor: Executor = "local"
    workers: int = 1
    attempts: int = 3
    address: str | None = None
    gpus: float = 0.0
    """Share of a GPU that a job asks a Ray cluster for."""

    def run(self, function: str, jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[JobResult]:
        """As `run_jobs`."""
        return run_jobs(
            function,
            jobs,
            executor=self.executor,
            workers=self.workers,
            attempts=self.attempts,
            address=self.address,
            resources={"CPU": 1, "GPU": self.gpus} if self.gpus else None,
        )


def run_jobs(
    function: str,
    jobs: Mapping[str, Mapping[str, Any]],
    *,
    executor: Executor = "local",
    workers: int = 1,
    attempts: int = 3,
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
) -> Iterator[JobResult]:
    """Run a function once for each job, and yield results as they come.

    Args:
        function: `module:name`, imported by the workers; its arguments and what it returns are
            pickled between processes of the same installation, never stored.
        jobs: Name -> keyword arguments.
        executor: `local` for processes of this machine, `ray` for a cluster.
        workers: Jobs at the same time.
        attempts: Times that a job is tried in all when its worker dies, or the function fails with
            anything but an error of ours, which would only repeat itself.
        address: Ray cluster to join; by default the one that `RAY_ADDRESS` names, or a new one on
            this machine.
        resources: For Ray, what a job needs: `CPU`, `GPU`.

    Raises:
        ConfigError: No such executor, or `workers` or `attempts` is below 1.
        MissingDependencyError: Ray is not installed.
    """
    if executor not in EXECUTORS:
        raise ConfigError(f"`executor` is {executor!r}, but must be one of {', '.join(EXECUTORS)}.")
    for name, value in (("workers", workers), ("attempts", attempts)):
        if value < 1:
            raise ConfigError(f"`{name}` is {value}, but must be at least 1.")
    pool = (
        _LocalPool(function, workers)
        if executor == "local"
        else _RayPool(function, workers, address, dict(resources or {"CPU": 1}))
    )
    waiting = deque((name, 1) for name in jobs)
    try:
        running: dict[str, int] = {}
        while waiting or running:
            while waiting and len(running) < workers:
                name, attempt = waiting.popleft()
                pool.submit(name, dict(jobs[name]))
                running[name] = attempt
            for name, value, error, is_final in pool.finished():
                attempt = running.pop(name)
                if error is not None and not is_final and attempt < attempts:
                    waiting.append((name, attempt + 1))
                else:
                    yield JobResult(name=name, value=value, error=error, attempts=attempt)
    finally:
        pool.close()


Finished = tuple[str, Any, str | None, bool]
"""Name, value, error, and whether another attempt would end the same way."""


def call(function: str, arguments: dict[str, Any]) -> tuple[Any, str | None, bool]:
    """Run a job's function here: (value, error, whether the error is final)."""
    module, name = function.split(":")
    try:
        return getattr(importlib.import_module(module), name)(**arguments), None, True
    except LoraGenError as error:
        return None, str(error), True
    except Exception as error:  # whatever a job does, the others go on
        return None, f"{type(error).__name__}: {error}", False


def _serve(function: str, pipe: Connection) -> None:
    """A local worker: answers jobs until its pipe closes."""
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(call(function, arguments))


class _LocalPool:
    """Processes that each hold one job; a dead one is replaced when the next job comes."""

    def __init__(self, function: str, workers: int) -> None:
        self._function = function
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[tuple[Any, Connection]] = []
        self._busy: dict[str, tuple[Any, Connection]] = {}

    def submit(self, name: str, arguments: dict[str, Any]) -> None:
        while self._idle:
            process, pipe = self._idle.pop()
            if process.is_alive():
                break
            pipe.close()
        else:
            pipe, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_serve, args=(self._function, theirs), daemon=True
            )
            process.start()
            theirs.close()
        self._busy[name] = process, pipe
        try:
            pipe.send(arguments)
        except OSError:
            return  # it died just now: `finished` finds its pipe closed

    def finished(self) -> list[Finished]:
        by_pipe = {pipe: name for name, (_, pipe) in self._busy.items()}
        found: list[Finished] = []
        for pipe in wait(list(by_pipe)):
            name = by_pipe[pipe]  # type: ignore[index]
            process, own = self._busy.pop(name)
            try:
                found.append((name, *own.recv()))
                self._idle.append((process, own))
            except (EOFError, OSError):
                process.join()
                own.close()
                found.append((name, None, f"Its worker died ({process.exitcode}).", False))
        return found

    def close(self) -> None:
        for process, pipe in [*self._idle, *self._busy.values()]:
            pipe.close()
            if process.is_alive() and (process, pipe) in self._busy.values():
                process.terminate()
            process.join(10)


class _RayPool:
    """Tasks of a Ray cluster; Ray's own retries are off, so that attempts are counted once."""

    def __init__(
        self, function: str, workers: int, address: str | None, resources: dict[str, float]
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "`--executor ray` needs Ray. Run `pip install 'lora_gen[zoo]'`, or use `local`."
            ) from error
        self._ray: Any = ray
        self._function = function
        self._owns = not self._ray.is_initialized()
        if self._owns:
            address = address or os.environ.get("RAY_ADDRESS")
            cluster = {"address": address} if address else {"num_cpus": workers}
            self._ray.init(**cluster, log_to_driver=False, include_dashboard=False)
        options = {f"num_{key.lower()}s": value for key, value in resources.items()}
        self._call = self._ray.remote(**options, max_retries=0)(call)
        self._running: dict[Any, str] = {}

    def submit(self, name: str, arguments: dict[str, Any]) -> None:
        self._running[self._call.remote(self._function, arguments)] = name

    def finished(self) -> list[Finished]:
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        found: list[Finished] = []
        for reference in done:
            name = self._running.pop(reference)
            try:
                found.append((name, *self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                reason = str(error).splitlines()[0]
                found.append((name, None, f"Its worker died ({reason[:120]}).", False))
        return found

    def close(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        if self._owns:
            self._ray.shutdown()
