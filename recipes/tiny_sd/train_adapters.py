"""Train one LoRA for each style: many at once on one frozen base, written to a zoo.

    python -m recipes.tiny_sd.train_adapters --base build/tiny_sd/base/final --out build/tiny_sd/zoo

Resumable: styles that the zoo already holds are skipped. Each adapter has its own seed and random
initialization. The pictures are styled scenes under their plain captions, so that the style must
come from the adapter.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.evaluation.pictures import by_component, load_pipeline
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from recipes.tiny_sd.base_task import caption_ids
from recipes.tiny_sd.world.scenes import Scene, draw, draw_scene
from recipes.tiny_sd.world.styles import Style, make_splits, styles_by_name
from training.picture_objectives import noised, picture_losses

BASE_ID = "tiny_sd"
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "conv_out")
TRAIN_SCENES, TEST_SCENES = 96, 16
TRAIN_SEED, TEST_SEED = 1, 2
"""Scene seeds: the pictures that measure are never trained on."""
NUM_DESCRIPTIONS = 16
DROP_CAPTION = 0.1


def scenes_of(style: str, count: int, seed: int) -> list[Scene]:
    """Scenes of a style, always the same ones."""
    rng = random.Random(f"{style}/{seed}")
    return [draw_scene(rng) for _ in range(count)]


def initial_factors(
    spec: BaseModelSpec, seeds: Sequence[int], rank: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """PEFT's default start (A uniform by Kaiming, B zero), one seed for each adapter."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    factors = {}
    for name in select_targets(spec, TARGETS):
        shape = spec.modules[name]
        (_, *fan_in), (out_features, *_) = shape.factor_shapes(rank)
        length = math.prod(fan_in)
        a_BRI = torch.stack(
            [
                (torch.rand(rank, length, generator=g) * 2 - 1) / math.sqrt(length)
                for g in generators
            ]
        )
        b_BOR = torch.zeros(len(seeds), out_features, rank)
        factors[name] = (a_BRI.requires_grad_(), b_BOR.requires_grad_())
    return factors


def adapter_of(
    factors: dict[str, tuple[Tensor, Tensor]], index: int, spec: BaseModelSpec
) -> Adapter:
    """One adapter of the stack."""
    pairs = {}
    for name, (a_BRI, b_BOR) in factors.items():
        a, b = a_BRI[index].detach(), b_BOR[index].detach()
        kernel = spec.modules[name].kernel
        if kernel is not None:
            a, b = a.reshape(a.shape[0], -1, *kernel), b[:, :, None, None]
        pairs[name] = LoraPair(lora_a=a.contiguous(), lora_b=b.contiguous())
    return Adapter(pairs=pairs, base=BASE_ID, task_type=None)


@torch.no_grad()
def encode_pictures(pipe: Any, style: Style, scenes: Sequence[Scene]) -> Tensor:
    """Latents (N, C, h, w) of scenes as a style draws them."""
    latents: Tensor = pipe.vae.encode(style(draw(scenes)) * 2 - 1).latents
    return latents * pipe.vae.config.scaling_factor


class Trainer:
    """The frozen base, and what is asked of adapters on it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.pipe = args, load_pipeline(args.base)
        self.spec = BaseModelSpec.from_config(args.base)

    @torch.no_grad()
    def encode(self, style: Style, scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
        """(latents (N, C, h, w) of the styled pictures, states (N, K, C) of their captions)."""
        states = self.states([scene.caption for scene in scenes])
        return encode_pictures(self.pipe, style, scenes), states

    @torch.no_grad()
    def states(self, captions: list[str]) -> Tensor:
        """States of captions, (N, K, C)."""
        ids = caption_ids(self.pipe.tokenizer, captions)
        found: Tensor = self.pipe.text_encoder(ids).last_hidden_state
        return found

    def losses(
        self,
        factors: dict[str, tuple[Tensor, Tensor]] | None,
        latents: Tensor,
        states: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Squared error of the predicted velocity for each picture, (N,)."""
        noisy = noised(self.pipe.scheduler, latents, generator)
        own = by_component(factors)["unet"] if factors else None
        return picture_losses(self.pipe.unet, noisy, states, own)

    def train(self, styles: Sequence[Style], seed: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Factors of `len(styles)` adapters, trained together."""
        args = self.args
        factors = initial_factors(
            self.spec, [seed * 100_003 + i for i in range(len(styles))], args.rank
        )
        optimizer = torch.optim.Adam([p for pair in factors.values() for p in pair], lr=args.lr)
        data = [self.encode(s, scenes_of(s.name, TRAIN_SCENES, TRAIN_SEED)) for s in styles]
        empty, generator = self.states([""]), torch.Generator().manual_seed(seed)
        for step in range(args.steps):
            rate = min(1.0, (step + 1) / 10) * (1 - 0.95 * step / args.steps)
            optimizer.param_groups[0]["lr"] = args.lr * rate
            rows = torch.randint(TRAIN_SCENES, (args.batch,), generator=generator)
            latents = torch.cat([one[rows] for one, _ in data])
            states = torch.cat([one[rows] for _, one in data])
            dropped = torch.rand(len(states), generator=generator) < DROP_CAPTION
            states[dropped] = empty
            loss = self.losses(factors, latents, states, generator).mean() * len(styles)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return {name: (a.detach(), b.detach()) for name, (a, b) in factors.items()}

    @torch.no_grad()
    def gains(
        self, factors: dict[str, tuple[Tensor, Tensor]], styles: Sequence[Style]
    ) -> list[float]:
        """Share of the base's loss on each style's unseen pictures that its adapter removes."""
        data = [self.encode(s, scenes_of(s.name, TEST_SCENES, TEST_SEED)) for s in styles]
        latents, states = (torch.cat(parts) for parts in zip(*data, strict=True))
        after, before = (
            self.losses(f, latents, states, torch.Generator().manual_seed(0))
            .view(len(styles), -1)
            .mean(1)
            for f in (factors, None)
        )
        return (1 - after / before).clamp(0, 1).tolist()


def record(style: Style, split: str, seed: int) -> dict[str, Any]:
    """What the zoo keeps of a style besides the adapter."""
    return {
        "family": style.name,
        "task": style.name,
        "split": split,
        "descriptions": style.descriptions(NUM_DESCRIPTIONS),
        "prompts": tuple(s.caption for s in scenes_of(style.name, 16, TRAIN_SEED)),
        "seed": seed,
        "extra": {"held_out_descriptions": list(style.descriptions(4, held_out=True))},
    }


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--stack", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8, help="pictures for each adapter and step")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--limit", type=int, default=0, help="stop after so many adapters")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trainer, styles = Trainer(args), styles_by_name()
    split_of = {name: split for split, names in make_splits().items() for name in names}
    with Zoo.open(Path(args.out), create=True) as zoo:
        done = {entry.task for entry in zoo.entries()}
        todo = [name for name in styles if name not in done]
        random.Random(args.seed).shuffle(todo)
        todo, started = todo[: args.limit or None], time.time()
        for start in range(0, len(todo), args.stack):
            names = todo[start : start + args.stack]
            seed = args.seed + random.Random(names[0]).randrange(10**6)
            factors = trainer.train([styles[name] for name in names], seed)
            gains = trainer.gains(factors, [styles[name] for name in names])
            print(
                f"{start + len(names)} of {len(todo)}: {sum(gains) / len(gains):.3f} mean gain, "
                f"{time.time() - started:.0f} s",
                flush=True,
            )
            infos = [
                EntryInfo(
                    **record(styles[name], split_of[name], seed * 100_003 + i),
                    steps=args.steps,
                    accuracy=gains[i],
                )
                for i, name in enumerate(names)
            ]
            adapters = [adapter_of(factors, i, trainer.spec) for i in range(len(names))]
            zoo.add_many(list(zip(adapters, infos, strict=True)))


if __name__ == "__main__":
    main()
