"""The only training loop. Steps are optimizer steps; what is trained is the task's matter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from accelerate.utils import send_to_device  # type: ignore[import-untyped]
from torch import Tensor

from lora_gen.errors import CheckpointError
from lora_gen.files import publish_folder, sweep_temp
from lora_gen.memory import memory_for
from training.build import Run, build_accelerator, build_run
from training.checkpoint import find_checkpoint, load_state, read_parents, save_checkpoint
from training.errors import TrainingError
from training.interrupt import StopRequest
from training.lock import held
from training.optimizer import learning_rate
from training.order import derive_seed
from training.processes import agree, from_main, gather, on_main, say
from training.random_state import random_state, random_state_kept
from training.reading import put_back
from training.recipe import Recipe
from training.resume import require_same_run
from training.sharded import whole
from training.task import DerivedTask, EvaluatedTask, Task
from training.tracking import Tracking

Tensors = Mapping[str, dict[str, Tensor]]


@memory_for("train")
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
        MemoryLimitError: Memory ran out; the newest checkpoint is intact.
        StorageError: A checkpoint could not be written.
        TrainingError: The loss is not finite, in more steps than `skip_bad_steps` allows.
    """
    accelerator = build_accelerator(recipe.run)
    folder = Path(recipe.run.output_dir)
    with StopRequest() as stop, held(folder) if accelerator.is_main_process else nullcontext():
        with on_main(accelerator) as is_main:
            for name in sweep_temp(folder) if is_main else []:
                say(accelerator, f"Removed `{folder / name}`, left by a process that was killed.")
        run = build_run(recipe, accelerator)
        _resume(run, force=force)
        with Tracking(run) as tracking:
            _steps(run, stop, tracking)
        if run.state.step >= recipe.run.max_steps:
            _save_artifact(run, folder / "final")
    return run.state.step


def export(recipe: Recipe, folder: Path, *, force: bool = False) -> int:
    """Write the artifact of the newest checkpoint without training.

    Args:
        recipe: The recipe of the run.
        folder: Where to write; an artifact of ours there is replaced.
        force: Accept a checkpoint although code, data, processes or settings differ.

    Returns:
        Finished optimizer steps of that checkpoint.

    Raises:
        CheckpointError: The output folder holds no checkpoint, or another run.
    """
    run = build_run(recipe, build_accelerator(recipe.run))
    _resume(run, force=force)
    if run.saved_step < 0:
        raise CheckpointError(f"`{run.folder}` holds no checkpoint. Train first.")
    _save_artifact(run, folder)
    return run.state.step


def _steps(run: Run, stop: StopRequest, tracking: Tracking) -> None:
    settings, state = run.recipe.run, run.state
    stopping = False
    while state.step < settings.max_steps and not stopping:
        stopping = _step(run, stop)
        is_last = state.step == settings.max_steps
        tracking.advance()
        if state.step % settings.tracking.log_every == 0:
            tracking.write_means()
        every = settings.tracking.eval_every
        if every and (state.step % every == 0 or is_last):
            _evaluate(run, tracking)
        if state.step % settings.checkpoint.every == 0 or is_last or stopping:
            _checkpoint(run)


def _step(run: Run, stop: StopRequest) -> bool:
    """One optimizer step; True when a process was asked to stop."""
    settings, state, accelerator = run.recipe.run, run.state, run.accelerator
    losses: list[Tensor] = []
    logged: list[Mapping[str, float | Tensor]] = []
    for _ in range(settings.gradient_accumulation_steps):
        index = state.batches_seen + accelerator.process_index
        batch = send_to_device(run.task.batch(index), accelerator.device)
        run.generator.manual_seed(derive_seed(settings.seed, "loss", index))
        with accelerator.accumulate(run.model):
            with accelerator.autocast():
                loss, values = run.task.loss(run.model, batch, run.generator)
            accelerator.backward(loss)
        losses.append(loss.detach())
        logged.append({"loss": losses[-1], **values})
        state.batches_seen += accelerator.num_processes
    norm = whole(
        accelerator.clip_grad_norm_(run.model.parameters(), settings.optimizer.max_grad_norm)
    )
    finite = all(math.isfinite(float(value)) for value in (*losses, norm))
    bad, stopping = agree(accelerator, not finite, bool(stop.requested))
    if bad:
        _skip(run, _not_finite(run, losses, norm))
        return stopping
    run.skipped = 0
    for found in logged:
        state.meter.add(found)
    rate = learning_rate(state.step, settings)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.optimizer.zero_grad()
    state.step += 1
    state.ema.update(state.step)
    state.meter.add({"grad_norm": norm})
    return stopping


def _skip(run: Run, sentence: str) -> None:
    """Leave the step out, or stop where too many in a row are bad."""
    allowed = run.recipe.run.skip_bad_steps
    run.skipped += 1
    if run.skipped > allowed:
        raise TrainingError(sentence)
    say(run.accelerator, f"Skipped ({run.skipped} of {allowed} in a row): {sentence}")
    run.optimizer.zero_grad()
    run.state.step += 1


def _not_finite(run: Run, losses: list[Tensor], norm: Tensor) -> str:
    kept = f"`checkpoint-{run.saved_step}` is kept" if run.saved_step > 0 else "nothing was saved"
    return (
        f"Step {run.state.step + 1} has loss {[float(x) for x in losses]} and gradient norm "
        f"{float(norm)} on process {run.accelerator.process_index}, but all must be finite on "
        f'every process; {kept}. Lower `optimizer.lr` or set `mixed_precision` to "no".'
    )


def _resume(run: Run, *, force: bool) -> None:
    """Put the run where its newest intact checkpoint left it, if there is one."""
    accelerator = run.accelerator
    found: Path | None = None
    with on_main(accelerator) as is_main:
        if is_main:
            found, skipped = find_checkpoint(run.folder)
            for sentence in skipped:
                say(accelerator, sentence)
    folder = from_main(accelerator, found)
    if folder is None:
        return
    try:
        require_same_run(folder, run.recipe, run.identity)
    except CheckpointError as error:
        if not force:
            raise
        say(accelerator, f"Forced: {error}")
    own = load_state(folder, run.state, process=accelerator.process_index)
    if own is not None:
        put_back(own, run.state.meter)
    run.saved_step = run.state.step
    run.inherited = read_parents(folder)
    say(accelerator, f"Resumed `{folder}` at step {run.state.step}.")


def _evaluate(run: Run, tracking: Tracking) -> None:
    if not isinstance(run.task, EvaluatedTask):
        return
    gathered = _gathered(run)
    with on_main(run.accelerator) as is_main:
        if is_main:
            with random_state_kept(), _averaged(run, gathered) as task:
                assert isinstance(task, EvaluatedTask)  # as `run.task` is
                scores = task.evaluate(task.model, run.state.step)
            tracking.write({f"eval/{name}": value for name, value in scores.items()})


def _gathered(run: Run) -> Tensors | None:
    """All tensors, where they lie in parts on the processes, who must all be asked."""
    return run.state.tensors() if run.is_sharded else None


@contextmanager
def _averaged(run: Run, gathered: Tensors | None) -> Iterator[Task]:
    """Within it the task's model holds the averages, whole and in evaluation mode."""
    if gathered is not None:
        twin = run.averaged_twin(gathered)
        twin.model.eval()
        yield twin
        return
    with run.state.ema.applied():
        run.state.model.eval()
        yield run.task
    run.state.model.train()


def _checkpoint(run: Run) -> None:
    own = {"random": random_state(), "meter": run.state.meter.state()}
    processes = gather(run.accelerator, own)
    gathered = _gathered(run)
    with on_main(run.accelerator) as is_main:
        if is_main:
            save_checkpoint(
                run.folder,
                run.state,
                identity=run.identity,
                recipe=run.recipe.to_yaml(),
                processes=processes,
                keep=run.recipe.run.checkpoint.keep,
                parents=_parents(run),
                tensors=gathered,
            )
    run.saved_step = run.state.step


def _save_artifact(run: Run, folder: Path) -> None:
    gathered = _gathered(run)
    with on_main(run.accelerator) as is_main:
        if is_main:
            publishing = publish_folder(folder, overwrite=True, parents=_parents(run))
            with publishing as temp, _averaged(run, gathered) as task:
                task.save(temp, task.model)
            say(run.accelerator, f"Wrote `{folder}` from the averaged weights.")


def _parents(run: Run) -> Sequence[str]:
    """What the weights were made from; whoever forgets one of these finds the run by it."""
    own = run.task.parents() if isinstance(run.task, DerivedTask) else ()
    return sorted({*own, *run.inherited})
