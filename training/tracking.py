"""What a run shows and writes: `metrics.jsonl` always, trackers and a progress bar when wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lora_gen.files import atomic_write_text
from training.build import Run
from training.metrics import MetricsLog, mean_of
from training.processes import gather, say
from training.resume import flat


class Tracking:
    """The log, the trackers and the progress bar of one call of `train`; a context manager."""

    def __init__(self, run: Run) -> None:
        """Open nothing yet.

        Args:
            run: Its state names the step and holds the values to log.
        """
        self._run = run
        self._log: MetricsLog | None = None
        self._trackers = bool(run.recipe.run.tracking.trackers)
        self._is_shown = run.accelerator.is_main_process and sys.stderr.isatty()
        self._progress = Progress(
            TextColumn("{task.fields[loss]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self._is_shown,
        )
        self._since = (time.perf_counter(), run.state.step)

    def __enter__(self) -> Tracking:
        """Open the log after the step that is resumed, and leave the resolved recipe beside it."""
        run = self._run
        if run.accelerator.is_main_process:
            atomic_write_text(run.folder / "recipe.yaml", run.recipe.to_yaml())
            self._log = MetricsLog(run.folder / "metrics.jsonl", step=run.state.step)
        if self._trackers:
            config = {name: str(value) for name, value in flat(run.recipe.to_dict())}
            run.accelerator.init_trackers("lora_gen", config=config)
        self._progress.start()
        total, step = run.recipe.run.max_steps, run.state.step
        self._bar = self._progress.add_task("", total=total, completed=step, loss="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything that was opened."""
        self._progress.stop()
        if self._log is not None:
            self._log.close()
        if self._trackers:
            self._run.accelerator.end_training()

    def advance(self) -> None:
        """Show one more finished step."""
        if self._is_shown:
            self._progress.advance(self._bar)

    def write_means(self) -> None:
        """Write the means since the last line, over all processes."""
        run, state = self._run, self._run.state
        means = mean_of(gather(run.accelerator, state.meter.state()))
        state.meter.clear()
        now, (then, step) = time.perf_counter(), self._since
        self._since = (now, state.step)
        rate = state.optimizer.param_groups[0]["lr"]
        speed = (state.step - step) / max(now - then, 1e-9)
        self._progress.update(self._bar, loss=f"loss {means['loss']:.4g}")
        self.write({**means, "lr": rate, "steps_per_second": speed})

    def write(self, values: Mapping[str, float]) -> None:
        """Write one line to the log, the trackers and, where no bar is shown, stderr."""
        run, step = self._run, self._run.state.step
        if self._trackers:
            run.accelerator.log(dict(values), step=step)
        if self._log is None:
            return
        self._log.write({"step": step, **values})
        if not self._is_shown:
            shown = "  ".join(f"{name} {value:.5g}" for name, value in values.items())
            say(run.accelerator, f"step {step}  {shown}")
