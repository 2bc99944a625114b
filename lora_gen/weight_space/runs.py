"""Checkpoints of a training run, as Transformers' `Trainer` leaves them, read as adapters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import load_adapter
from lora_gen.errors import AdapterMismatchError

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Run:
    """The checkpoints of one training, equally spaced, oldest first."""

    checkpoints: tuple[Adapter, ...]
    first_step: int
    spacing: int
    """Optimizer steps between two checkpoints."""

    @property
    def last_step(self) -> int:
        """Step of the last checkpoint."""
        return self.first_step + self.spacing * (len(self.checkpoints) - 1)


def load_run(folder: Path) -> Run:
    """The run whose `checkpoint-STEP` folders lie in `folder`.

    Raises:
        AdapterMismatchError: There are fewer than two checkpoints, or they are not equally spaced.
        AdapterFormatError: A checkpoint is no adapter.
    """
    found = {
        int(match.group(1)): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _NAME.fullmatch(path.name)) is not None
    }
    steps = sorted(found)
    if len(steps) < 2:
        raise AdapterMismatchError(
            f"`{folder}` has {len(steps)} folders named checkpoint-STEP, and a run needs two. Save "
            "checkpoints while you train (`save_steps`)."
        )
    gaps = {later - earlier for earlier, later in pairwise(steps)}
    if len(gaps) > 1:
        raise AdapterMismatchError(
            f"`{folder}` has checkpoints {min(gaps)} to {max(gaps)} steps apart, and a nowcast "
            "needs them equally spaced. Keep only those at equal steps."
        )
    return Run(
        checkpoints=tuple(load_adapter(found[step]) for step in steps),
        first_step=steps[0],
        spacing=gaps.pop(),
    )
