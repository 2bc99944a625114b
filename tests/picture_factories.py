"""A tiny text-to-image base with random weights, made by the recipe's own tasks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from recipes.tiny_sd.autoencoder_task import AutoencoderConfig, AutoencoderTask
from recipes.tiny_sd.base_task import BaseConfig, BaseTask
from recipes.tiny_sd.train_adapters import TARGETS, adapter_of, initial_factors
from training.task import TaskContext

CONTEXT = TaskContext(seed=0, batch_size=8, device=torch.device("cpu"))


def base_task(folder: Path) -> BaseTask:
    """The base's task on an autoencoder of random weights."""
    torch.manual_seed(0)
    small = AutoencoderTask(AutoencoderConfig(width=8, latent_channels=4), CONTEXT)
    last = small.model.autoencoder.decoder.layers[-1]
    torch.nn.init.normal_(last.weight, std=0.5)
    torch.nn.init.constant_(last.bias, 0.5)  # mid-gray: random weights alone draw black
    (folder / "autoencoder").mkdir(exist_ok=True)
    small.save(folder / "autoencoder", small.model)
    config = BaseConfig(
        autoencoder=str(folder / "autoencoder"), widths=(8, 16), text_width=16, text_layers=1
    )
    return BaseTask(config, CONTEXT)


@cache
def picture_base() -> Path:
    """Folder of a whole pipeline, made once a process."""
    folder = Path(mkdtemp(prefix="tiny-picture-base-"))
    task = base_task(folder)
    task.save(folder / "base", task.model)
    return folder / "base"


def random_picture_adapters(count: int, size: float = 0.3) -> list[Adapter]:
    """Rank 2 on attention and convolutions, with an effect."""
    spec = BaseModelSpec.from_config(picture_base())
    factors = initial_factors(spec, range(count), 2)
    source = torch.Generator().manual_seed(0)
    moved = {
        name: (a.detach(), torch.randn(b.shape, generator=source) * size)
        for name, (a, b) in factors.items()
    }
    assert set(moved) == {n for n in spec.modules if n.endswith(tuple(f".{t}" for t in TARGETS))}
    return [adapter_of(moved, i, spec) for i in range(count)]
