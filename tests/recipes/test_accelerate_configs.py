"""Launcher files: Accelerate itself reads them, and they name classes that exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from generator_factories import tiny_denoiser

FOLDER = Path(__file__).parents[2] / "recipes" / "accelerate"
EXPECTED = {
    "one_gpu": ("NO", 1),
    "ddp": ("MULTI_GPU", 8),
    "fsdp2": ("FSDP", 8),
    "two_nodes": ("MULTI_GPU", 16),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_the_launcher_file(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert (config.distributed_type.value, config.num_processes) == EXPECTED[name]
    assert config.mixed_precision == "bf16"


def test_every_launcher_file_is_checked():
    assert {path.stem for path in FOLDER.iterdir()} == set(EXPECTED)


def test_fsdp2_shards_blocks_that_the_generator_has():
    config = load_config_from_file(str(FOLDER / "fsdp2.yaml")).fsdp_config
    names = config["fsdp_transformer_layer_cls_to_wrap"].split(",")
    found = {type(module).__name__ for module in tiny_denoiser().modules()}
    assert config["fsdp_version"] == 2
    assert set(names) <= found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_one_step_runs_under_bf16_on_a_gpu():
    denoiser = tiny_denoiser().to("cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        out = denoiser.backbone.blocks[0].feed_forward(torch.randn(2, 3, 16, device="cuda"))
    assert out.dtype == torch.bfloat16
