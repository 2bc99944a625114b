"""Train the recipe in argv[1] by FSDP2, on CPUs too, and leave in argv[2] what this process saw.
argv[3] names the classes whose instances are sharded.

Accelerate turns FSDP on for accelerators alone; PyTorch shards on CPUs as well, by gloo. So the
accelerator is told afterwards; all else is the loop as users run it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import accelerate
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

import training.loop
from training.build import build_accelerator
from training.processes import leave_group
from training.recipe import load_recipe


def sharding_accelerator(settings: Any) -> accelerate.Accelerator:
    made = build_accelerator(settings)
    state = accelerate.state.AcceleratorState()
    state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=sys.argv[3].split(","),
        reshard_after_forward=True,
        cpu_ram_efficient_loading=False,
    )
    return made


shares: list[float] = []
build_run = training.loop.build_run


def spying_build(recipe: Any, accelerator: Any) -> Any:
    run = build_run(recipe, accelerator)
    held = sum(p.to_local().numel() for p in run.state.model.parameters())
    shares.append(held / sum(p.numel() for p in run.state.model.parameters()))
    return run


training.loop.build_accelerator = sharding_accelerator
training.loop.build_run = spying_build
training.loop.train(load_recipe(Path(sys.argv[1])))
Path(sys.argv[2], f"{os.environ['RANK']}.json").write_text(json.dumps({"share": shares[0]}))
leave_group()
