"""The only training loop. Steps are optimizer steps; what is trained is the task's matter."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    broadcast_object_list,
    gather_object,
    send_to_device,
)
from accelerate.tracking import get_available_trackers
from torch import Tensor, nn
from tqdm import tqdm

from lora_gen.errors import LoraGenError, MissingDependencyError
from lora_gen.files import atomic_write_text, publish_folder, sweep_temp
from training.checkpoint import Identity, find_checkpoint, load_state, save_checkpoint
from training.config import RunConfig
from training.ema import Ema
from training.errors import TrainingError
from training.interrupt import StopRequest
from training.lock import held
from training.optimizer import build_optimizer, learning_rate
from training.order import derive_seed
from training.random_state import (
    random_state,
    random_state_kept,
    restore_random_state,
    seed_everything,
)
from training.recipe import Recipe
from training.resume import require_same_run
from training.state import TrainState
from training.task import EvaluatedTask, Task, TaskContext
from training.tasks import find_task
from training.tracking import MetricsLog, mean_of


@dataclass
class _Run:
    """The objects that one call of `train` works with."""

    recipe: Recipe
    accelerator: Accelerator
    task: Task
    model: nn.Module
    optimizer: Any
    state: TrainState
    identity: Identity
    generator: torch.Generator
    saved_step: int = -1
    logged_at: tuple[float, int] = field(default_factory=lambda: (time.perf_counter(), 0))

    @property
    def folder(self) -> Path:
        return Path(self.recipe.run.output_dir)


def train(recipe: Recipe, *, force: bool = False) -> int:
    """Train until `max_steps` or a stop signal, resuming what the output folder holds.

    Args:
        recipe: Run and task.
        force: Resume a checkpoint although code, data, processes or settings differ.

    Returns:
        Finished optimizer steps; fewer than `max_steps` after a stop signal.

    Raises:
        CheckpointError: The output folder holds another run.
        LockedError: Another process trains into the output folder.
        StorageError: A checkpoint could not be written.
        TrainingError: The loss is not finite.
    """
    accelerator = _accelerator(recipe.run)
    with StopRequest() as stop, _output_folder(recipe, accelerator):
        run = _build(recipe, accelerator)
        _resume(run, force=force)
        with _log(run) as log:
            _loop(run, stop, log)
        if run.state.step >= recipe.run.max_steps:
            _save_artifact(run, run.folder / "final")
        accelerator.wait_for_everyone()
    return run.state.step


def export(recipe: Recipe, folder: Path) -> int:
    """Write the artifact of the newest checkpoint without training.

    Args:
        recipe: The recipe of the run.
        folder: Where to write; an artifact of ours there is replaced.

    Returns:
        Finished optimizer steps of that checkpoint.

    Raises:
        TrainingError: The output folder holds no checkpoint.
    """
    run = _build(recipe, _accelerator(recipe.run))
    _resume(run, force=True)
    if run.state.step == 0:
        raise TrainingError(f"`{run.folder}` holds no checkpoint yet. Train first.")
    _save_artifact(run, folder)
    return run.state.step


def _loop(run: _Run, stop: StopRequest, log: MetricsLog | None) -> None:
    settings, state = run.recipe.run, run.state
    shown = run.accelerator.is_main_process and sys.stderr.isatty()
    bar = tqdm(total=settings.max_steps, initial=state.step, disable=not shown, unit="step")
    stopping = False
    while state.step < settings.max_steps and not stopping:
        stopping = _step(run, bool(stop.requested))
        bar.update()
        if state.step % settings.tracking.log_every == 0:
            _write_log(run, log, bar)
        every = settings.tracking.eval_every
        if every and (state.step % every == 0 or state.step == settings.max_steps):
            _evaluate(run, log, bar)
        if state.step % settings.checkpoint.every == 0:
            _checkpoint(run)
    bar.close()
    if state.step > run.saved_step:
        _checkpoint(run)


def _step(run: _Run, stop_requested: bool) -> bool:
    """One optimizer step; True when any process was asked to stop before it."""
    settings, state, accelerator = run.recipe.run, run.state, run.accelerator
    losses: list[Tensor] = []
    for _ in range(settings.gradient_accumulation_steps):
        index = state.batches_seen + accelerator.process_index
        batch = send_to_device(run.task.batch(index), accelerator.device)
        run.generator.manual_seed(derive_seed(settings.seed, "loss", index))
        with accelerator.accumulate(run.model):
            with accelerator.autocast():
                loss, values = run.task.loss(run.model, batch, run.generator)
            accelerator.backward(loss)
        losses.append(loss.detach())
        state.meter.add({"loss": losses[-1], **values})
        state.batches_seen += accelerator.num_processes
    norm = accelerator.clip_grad_norm_(run.model.parameters(), settings.optimizer.max_grad_norm)
    bad, stopping = _agree(accelerator, not _finite([*losses, norm]), stop_requested)
    if bad:
        raise TrainingError(_not_finite(run, losses, norm))
    rate = learning_rate(
        state.step,
        peak=settings.optimizer.lr,
        max_steps=settings.max_steps,
        config=settings.lr_scheduler,
    )
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.optimizer.zero_grad()
    state.step += 1
    state.ema.update(state.step)
    state.meter.add({"grad_norm": norm, "lr": rate})
    return stopping


def _finite(values: list[Tensor]) -> bool:
    return all(math.isfinite(float(value)) for value in values)


def _agree(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """Each flag, raised on every process when it is raised on one."""
    if accelerator.num_processes == 1:
        return list(flags)
    votes = torch.tensor(flags, dtype=torch.float32, device=accelerator.device)
    return [vote > 0 for vote in accelerator.reduce(votes, "sum").tolist()]


def _not_finite(run: _Run, losses: list[Tensor], norm: Tensor) -> str:
    kept = f"`checkpoint-{run.saved_step}` is kept" if run.saved_step > 0 else "nothing was saved"
    return (
        f"Step {run.state.step + 1} has losses {[float(x) for x in losses]} and gradient norm {float(norm)}, which are "
        f"not all finite; {kept}. Lower `optimizer.lr` or `optimizer.max_grad_norm`, or use `mixed_precision: \"no\"`."
    )


def _accelerator(settings: RunConfig) -> Accelerator:
    if settings.threads:
        torch.set_num_threads(settings.threads)
    trackers = list(settings.tracking.trackers)
    known = {str(name) for name in get_available_trackers()}
    for name in trackers:
        if name not in known:
            raise MissingDependencyError(
                f"`tracking.trackers` names {name!r}, which is not installed. Run `pip install {name}`."
            )
    return Accelerator(
        mixed_precision=settings.mixed_precision,
        # the plugin, since an environment variable of the launcher would override the plain argument
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=settings.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        # a step may leave parts unused, such as an embedding for an absent input
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        log_with=trackers or None,
        project_dir=settings.output_dir,
    )


def _build(recipe: Recipe, accelerator: Accelerator) -> _Run:
    settings = recipe.run
    _, build_task = find_task(recipe.task_name)
    seed_everything(settings.seed, "build")
    device = accelerator.device
    task = build_task(
        recipe.task,
        TaskContext(seed=settings.seed, batch_size=settings.batch_size, device=device),
    )
    model = accelerator.prepare(task.model)
    state = TrainState(
        model=task.model,
        optimizer=build_optimizer(task.model, settings.optimizer),
        ema=Ema(task.model, settings.ema),
    )
    seed_everything(settings.seed, "process", accelerator.process_index)
    return _Run(
        recipe=recipe,
        accelerator=accelerator,
        task=task,
        model=model.train(),
        optimizer=accelerator.prepare(state.optimizer),
        state=state,
        identity=Identity(task.fingerprint(), accelerator.num_processes),
        generator=torch.Generator(device=device),
    )


@contextmanager
def _output_folder(recipe: Recipe, accelerator: Accelerator) -> Iterator[None]:
    """Hold the folder on the main process, clean it, and leave the resolved recipe there."""
    folder = Path(recipe.run.output_dir)
    with held(folder) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            for name in sweep_temp(folder):
                _say(accelerator, f"Removed `{name}`, left by a process that was killed.")
        yield


def _resume(run: _Run, *, force: bool) -> None:
    accelerator = run.accelerator
    accelerator.wait_for_everyone()
    folder, skipped = find_checkpoint(run.folder)
    for sentence in skipped:
        _say(accelerator, sentence)
    if folder is not None:
        try:
            require_same_run(folder, run.recipe, run.identity)
        except LoraGenError as error:
            if not force:
                raise
            _say(accelerator, f"Forced: {error}")
        own = load_state(folder, run.state, process=accelerator.process_index)
        if own is not None:
            restore_random_state(own["random"])
            run.state.meter.restore(own["meter"])
        run.saved_step = run.state.step
        _say(accelerator, f"Resumed `{folder}` at step {run.state.step}.")
    run.logged_at = (time.perf_counter(), run.state.step)


@contextmanager
def _log(run: _Run) -> Iterator[MetricsLog | None]:
    """The log on the main process, with the trackers of the recipe."""
    accelerator = run.accelerator
    log = None
    if accelerator.is_main_process:
        atomic_write_text(run.folder / "recipe.yaml", run.recipe.to_yaml())
        log = MetricsLog(run.folder / "metrics.jsonl", step=run.state.step)
    if run.recipe.run.tracking.trackers:
        accelerator.init_trackers("lora_gen", config={"recipe": run.recipe.to_yaml()})
    try:
        yield log
    finally:
        if log is not None:
            log.close()
        if run.recipe.run.tracking.trackers:
            accelerator.end_training()


def _write_log(run: _Run, log: MetricsLog | None, bar: Any) -> None:
    means = mean_of(_gather(run.accelerator, run.state.meter.state()))
    run.state.meter.clear()
    now, (then, step) = time.perf_counter(), run.logged_at
    run.logged_at = (now, run.state.step)
    speed = (run.state.step - step) / max(now - then, 1e-9)
    _emit(run, log, {"step": run.state.step, **means, "steps_per_second": speed})
    bar.set_postfix(loss=f"{means['loss']:.4g}", refresh=False)


def _emit(run: _Run, log: MetricsLog | None, values: Mapping[str, float]) -> None:
    run.accelerator.log(dict(values), step=run.state.step)
    if log is None:
        return
    log.write(values)
    if not sys.stderr.isatty():
        _say(run.accelerator, "  ".join(f"{name} {value:.5g}" for name, value in values.items()))


def _evaluate(run: _Run, log: MetricsLog | None, bar: Any) -> None:
    if run.accelerator.is_main_process and isinstance(run.task, EvaluatedTask):
        model = run.state.model
        with random_state_kept(), run.state.ema.applied():
            model.eval()
            scores = run.task.evaluate(model, run.state.step)
            model.train()
        _emit(run, log, {"step": run.state.step, **{f"eval/{k}": v for k, v in scores.items()}})
    run.accelerator.wait_for_everyone()


def _checkpoint(run: _Run) -> None:
    own = {"random": random_state(), "meter": run.state.meter.state()}
    processes = _gather(run.accelerator, own)
    with _main_process_only(run.accelerator) as is_main:
        if is_main:
            save_checkpoint(
                run.folder,
                run.state,
                identity=run.identity,
                recipe=run.recipe.to_yaml(),
                processes=processes,
                keep=run.recipe.run.checkpoint.keep,
            )
    run.saved_step = run.state.step


def _save_artifact(run: _Run, folder: Path) -> None:
    with _main_process_only(run.accelerator) as is_main:
        if is_main:
            with publish_folder(folder, overwrite=True) as temp, run.state.ema.applied():
                run.task.save(temp, run.state.model)
            _say(run.accelerator, f"Wrote `{folder}` from the averaged weights.")


@contextmanager
def _main_process_only(accelerator: Accelerator) -> Iterator[bool]:
    """True on the main process; an error there ends the others too, instead of leaving them waiting."""
    failure: list[str | None] = [None]
    try:
        yield accelerator.is_main_process
    except BaseException as error:
        failure = [str(error)]
        raise
    finally:
        broadcast_object_list(failure)
        if failure[0] is not None and not accelerator.is_main_process:
            raise TrainingError(f"The main process failed: {failure[0]}")


def _gather(accelerator: Accelerator, value: Any) -> list[Any]:
    """`value` of every process, by its index."""
    return list(gather_object([value])) if accelerator.num_processes > 1 else [value]


def _say(accelerator: Accelerator, sentence: str) -> None:
    if accelerator.is_main_process:
        print(sentence, file=sys.stderr, flush=True)
