"""Train the recipe in argv[1] and leave what this process saw and ended with in argv[2]."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from training.loop import train
from training.recipe import load_recipe
from training.tasks import TASKS
from training.toy_task import ToyConfig, ToyTask

built: list[ToyTask] = []
seen: list[int] = []


class Spy(ToyTask):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        built.append(self)

    def batch(self, index: int) -> dict[str, Tensor]:
        seen.append(index)
        return super().batch(index)


TASKS["toy"] = lambda: (ToyConfig, Spy)
train(load_recipe(Path(sys.argv[1])))

from accelerate import Accelerator  # noqa: E402

from training.processes import leave_group  # noqa: E402

report = {
    "num_processes": Accelerator().num_processes,
    "seen": seen,
    "weights": {name: t.flatten().tolist() for name, t in built[0].model.state_dict().items()},
}
Path(sys.argv[2], f"{os.environ['RANK']}.json").write_text(json.dumps(report))
leave_group()
