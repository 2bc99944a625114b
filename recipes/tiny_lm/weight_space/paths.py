"""Mode connectivity: behavior along paths between two adapters, on both ends' tasks.

Between the adapters that tasks were trained to: the straight line of deltas, and the geodesic of
balanced factors on the quotient manifold. Between the adapters that the generator makes of the
tasks' descriptions: the straight line of deltas, and the generator's own path, whose points are
adapters generated from a mixture of both conditions.

python -m recipes.tiny_lm.weight_space.paths
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.assets import default_generator
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.condition import Condition, base_condition
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.weight_space.merge import merge_adapters
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, interval, save
from recipes.tiny_lm.weight_space.merge import groups

SHARES = (0.0, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
PAIRS, RANK, STEPS = 12, 4, 4

Path = Callable[[float], Adapter]


class GeneratorPath:
    """Adapters generated from mixtures of two descriptions, all from one noise.

    Text states are mixed place by place; a text that is shorter goes on with its last state, so
    that both ends have as many.
    """

    def __init__(self, pipe: LoraGenPipeline, bench: Bench, texts: tuple[str, str]) -> None:
        self.pipe, self.spec = pipe, bench.spec
        self.codec = AdapterCodec(
            layout=TokenLayout.build(
                bench.spec, rank=RANK, width=pipe.denoiser.config.token_width, targets="all-linear"
            ),
            scaling=pipe.denoiser.token_scaling,
        )
        states = [pipe.encoder.encode([text]).states for text in texts]
        longest = max(one.shape[1] for one in states)
        self.ends = [_padded(one, longest) for one in states]

    @torch.no_grad()
    def __call__(self, share: float) -> Adapter:
        """The adapter at `share` of the way to the second description."""
        mixed = torch.lerp(self.ends[0], self.ends[1], share)
        mask = torch.ones(mixed.shape[:2], dtype=torch.bool)
        condition = Condition(
            text_states=mixed, text_mask=mask, base_features=base_condition(self.spec, 1)
        )
        denoiser, layout = self.pipe.denoiser, self.codec.layout
        prototype = denoiser.prototype(condition, layout)
        x = torch.randn(
            (1, layout.num_tokens, layout.width + 1), generator=torch.Generator().manual_seed(0)
        )
        levels = torch.linspace(1, 0, STEPS + 1).tolist()
        for now, after in pairwise(levels):
            clean = denoiser.clean(x, torch.tensor([now]), prototype)
            x = x * (after / now) + clean * (1 - after / now)
        return self.codec.decode(x[0], base=self.spec.id, task_type=self.spec.task_type)


def _padded(states_1KC: Tensor, length: int) -> Tensor:
    last = states_1KC[:, -1:].expand(-1, length - states_1KC.shape[1], -1)
    return torch.cat([states_1KC, last], 1)


def between(one: Adapter, two: Adapter, method: str) -> Path:
    """The path that merges both ends by `method`."""
    name: Any = method
    return lambda share: merge_adapters([one, two], [1 - share, share], method=name).adapter


def measure(bench: Bench) -> dict[str, Any]:
    """Exact match on both tasks at each share of the second adapter, with intervals over pairs."""
    found = groups(bench.tasks(HELD_OUT[:1], 120), 2, PAIRS, 3)
    pipe = LoraGenPipeline.from_pretrained(default_generator())
    paths: dict[str, list[Path]] = {}
    for one, two in found:
        paths.setdefault("trained, straight", []).append(
            between(one.adapter, two.adapter, "linear")
        )
        paths.setdefault("trained, geodesic", []).append(
            between(one.adapter, two.adapter, "geodesic")
        )
        texts = one.entry.descriptions[0], two.entry.descriptions[0]
        own = GeneratorPath(pipe, bench, texts)
        ends = own(0.0), own(1.0)
        paths.setdefault("generated, straight", []).append(between(*ends, "linear"))
        paths.setdefault("generated, generator's own", []).append(own)
    report: dict[str, Any] = {"pairs": len(found), "inputs": bench.inputs, "shares": SHARES}
    report["curves"] = {name: _curve(bench, along, found) for name, along in paths.items()}
    save("paths", report)
    return report


def _curve(bench: Bench, along: Sequence[Path], pairs: Any) -> dict[str, Any]:
    """Intervals a share: of each side's task, and of the mean of both."""
    sides: dict[str, list[Any]] = {"first task": [], "second task": [], "both": []}
    for share in SHARES:
        adapters = [path(share) for path in along]
        values = [bench.scores(adapters, [pair[side].tests for pair in pairs]) for side in (0, 1)]
        sides["first task"].append(interval(values[0]))
        sides["second task"].append(interval(values[1]))
        sides["both"].append(interval([(a + b) / 2 for a, b in zip(*values, strict=True)]))
    return sides


if __name__ == "__main__":
    measure(Bench())
