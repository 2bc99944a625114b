"""Mode connectivity: behavior along the straight path between two adapters, and along the manifold.

The straight path mixes deltas; the geodesic path mixes balanced factors on the quotient manifold of
the adapters' rank. Both ends do their own task; the question is what is in between.
"""

from __future__ import annotations

from typing import Any

from lora_gen.adapter.adapter import Adapter
from lora_gen.weight_space.merge import merge_adapters
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, save
from recipes.tiny_lm.weight_space.merge import groups

SHARES = (0.0, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
PAIRS = 12


def measure(bench: Bench) -> dict[str, Any]:
    """Mean exact match on the first and the second task at each share of the second adapter."""
    found = groups(bench.tasks(HELD_OUT, 120), 2, PAIRS, 3)
    curves: dict[str, list[float]] = {}
    for method in ("linear", "geodesic"):
        for share in SHARES:
            middle: list[Adapter] = [
                merge_adapters(
                    [one.adapter, two.adapter],
                    [1 - share, share],
                    method="linear" if method == "linear" else "geodesic",
                ).adapter
                for one, two in found
            ]
            for side, name in enumerate(("first task", "second task")):
                values = bench.scores(middle, [pair[side].tests for pair in found])
                curves.setdefault(f"{name}, {method}", []).append(sum(values) / len(values))
    report = {"pairs": len(found), "shares": SHARES, "curves": curves}
    save("paths", report)
    return report


if __name__ == "__main__":
    print(measure(Bench()))
