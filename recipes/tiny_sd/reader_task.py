"""Train the reader: a small classifier that says what is in a picture, whatever its style."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recipes.tiny_sd.world.primitive import primitives
from recipes.tiny_sd.world.scenes import Scene, draw, draw_scene
from recipes.tiny_sd.world.shapes import SHAPES
from recipes.tiny_sd.world.styles import Style, all_styles
from training.order import derive_seed
from training.task import TaskContext

STACK = 4
"""Pictures of a batch that share a style."""
MAX_THINGS = 3


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """Size and data of the reader."""

    width: int = 24
    """Channels of the first convolution; the others have two and three times as many."""
    plain_share: float = 0.25
    """Share of pictures without a style."""


class Reader(nn.Module):
    """Which shapes are in a picture and how many things; its last layer's input is the features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (3, width, 2 * width, 3 * width)
        self.trunk = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU()
                )
                for a, b in pairwise(sizes)
            ),
            nn.Flatten(),
            nn.Linear(3 * width * 16, 4 * width),
            nn.SiLU(),
        )
        self.head = nn.Linear(4 * width, len(SHAPES) + MAX_THINGS)

    def features(self, pictures: Tensor) -> Tensor:
        """(N, F) of pictures (N, 3, 32, 32) in [0, 1]."""
        found: Tensor = self.trunk(pictures * 2 - 1)
        return found

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each shape's presence (N, shapes) and of the number of things (N, 3)."""
        scores = self.head(self.features(pictures))
        return scores[:, : len(SHAPES)], scores[:, len(SHAPES) :]

    @torch.no_grad()
    def reads(self, pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Whether shapes and number are those of each scene, (N,) bool."""
        shapes, count = self(pictures)
        wanted_shapes, wanted_count = contents(scenes)
        right: Tensor = ((shapes > 0) == wanted_shapes.bool()).all(1)
        return right & (count.argmax(1) == wanted_count)


def contents(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """(presence of each shape (N, shapes) float, number of things - 1 (N,))."""
    present = torch.zeros(len(scenes), len(SHAPES))
    for i, scene in enumerate(scenes):
        for thing in scene.things:
            present[i, tuple(SHAPES).index(thing.shape)] = 1
    return present, torch.tensor([len(scene.things) - 1 for scene in scenes])


def load_reader(folder: Path) -> Reader:
    """The reader that `ReaderTask.save` wrote."""
    config = ReaderConfig(**json.loads((folder / "config.json").read_text()))
    reader = Reader(config.width)
    reader.load_state_dict(load_file(folder / "model.safetensors"))
    return reader.eval().requires_grad_(False)


class ReaderTask:
    """See `training.task.Task`. Every batch is new: scenes are drawn from the batch's number."""

    def __init__(self, config: ReaderConfig, context: TaskContext) -> None:
        self.config, self.context = config, context
        self.styles = [*all_styles(), *(Style(p.name, (p,)) for p in primitives())]
        self.model: nn.Module = Reader(config.width)

    def batch(self, index: int) -> dict[str, Tensor]:
        """Pictures in [0, 1], and what is in them."""
        rng = random.Random(derive_seed(self.context.seed, "reading", index))
        scenes = [draw_scene(rng) for _ in range(self.context.batch_size)]
        pictures = draw(scenes)
        for rows in pictures.split(STACK):
            if rng.random() >= self.config.plain_share:
                rows.copy_(rng.choice(self.styles)(rows))
        shapes, count = contents(scenes)
        return {"pictures": pictures, "shapes": shapes, "count": count}

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Cross entropies of shapes and number."""
        shapes, count = model(batch["pictures"])
        loss = nn.functional.binary_cross_entropy_with_logits(shapes.float(), batch["shapes"]) * 4
        return loss + nn.functional.cross_entropy(count.float(), batch["count"]), {}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Share of new pictures that are read right, shapes and number together."""
        right = []
        for i in range(8):
            batch = {name: x.to(self.context.device) for name, x in self.batch(-1 - i).items()}
            shapes, count = model(batch["pictures"])
            same = ((shapes > 0) == batch["shapes"].bool()).all(1)
            right.append((same & (count.argmax(1) == batch["count"])).float())
        return {"accuracy": float(torch.cat(right).mean())}

    def save(self, folder: Path, model: nn.Module) -> None:
        """Weights and sizes."""
        save_file(dict(model.state_dict()), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(asdict(self.config)) + "\n")

    def fingerprint(self) -> str:
        """Hash of the world."""
        names = " ".join(style.name for style in self.styles)
        return blake2b(names.encode(), digest_size=8).hexdigest()


def build_reader_task(config: ReaderConfig, context: TaskContext) -> ReaderTask:
    """The reader's task of a recipe."""
    return ReaderTask(config, context)
