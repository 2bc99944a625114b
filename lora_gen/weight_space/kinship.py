"""Adapters that do the same from different trainings: a student and its teacher, or two seeds.

Two trainings from different starts share little delta weight, since A keeps its random rows.
What they share is where they write: the gradients that B collects are of one task. So adapters are
compared by what their deltas write, `delta @ delta.T` of each module, by r x r products. That says
nothing of who was first, and nothing of whether the second saw the first's answers or its data;
adapters of like tasks stand out as well.

Shapes: N adapters, M modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import core_svd
from lora_gen.errors import AdapterMismatchError

AKIN = 4.5
"""Robust standard deviations above an adapter's usual kinship with others that a kin has."""


@dataclass(frozen=True, kw_only=True)
class Kin:
    """An adapter, and the one that writes most like it."""

    name: str
    nearest: str
    kinship: float
    """Mean over modules of the cosine of what is written, 0 to 1."""
    score: float
    """Robust standard deviations above the adapter's kinship with all others."""

    @property
    def is_akin(self) -> bool:
        """Whether that is too much for unrelated tasks; like tasks are akin too."""
        return self.score > AKIN


def kinships(left: Sequence[Adapter], right: Sequence[Adapter]) -> Tensor:
    """Kinship of each of `left` with each of `right`, (left, right), in any gauge and at any rank.

    Raises:
        AdapterMismatchError: One side is empty, or no module is in all adapters.
    """
    names = set.intersection(*(set(adapter.pairs) for adapter in [*left, *right]), set(_any(left)))
    if not left or not right or not names:
        raise AdapterMismatchError(
            f"{len(left)} and {len(right)} adapters share {len(names)} modules. Compare adapters "
            "of one base that change the same modules."
        )
    total = torch.zeros(len(left), len(right), dtype=torch.float64)
    for name in sorted(names):
        written = [[_written(adapter, name) for adapter in side] for side in (left, right)]
        for i, one_OR in enumerate(written[0]):
            for j, two_OR in enumerate(written[1]):
                total[i, j] += (one_OR.mT @ two_OR).square().sum()
    return total / len(names)


def nearest_kin(adapters: Mapping[str, Adapter]) -> list[Kin]:
    """For each adapter, the one that writes most like it; the strangest kinship first.

    Raises:
        AdapterMismatchError: There are fewer than eight, too few to know what is usual.
    """
    names = list(adapters)
    if len(names) < 8:
        raise AdapterMismatchError(
            f"There are {len(names)} adapters, too few to know which kinship is usual. Add others "
            "of the same base, eight in all."
        )
    found_NN = kinships(list(adapters.values()), list(adapters.values()))
    found_NN.fill_diagonal_(-torch.inf)
    kin = []
    for i, name in enumerate(names):
        others = torch.cat([found_NN[i, :i], found_NN[i, i + 1 :]])
        middle = others.median()
        spread = 1.4826 * (others - middle).abs().median().clamp_min(1e-9)
        best = int(found_NN[i].argmax())
        score = float((found_NN[i, best] - middle) / spread)
        kin.append(
            Kin(name=name, nearest=names[best], kinship=float(found_NN[i, best]), score=score)
        )
    return sorted(kin, key=lambda one: -one.score)


def _any(adapters: Sequence[Adapter]) -> Mapping[str, object]:
    return adapters[0].pairs if adapters else {}


def _written(adapter: Adapter, name: str) -> Tensor:
    """Columns W with W W^T = delta delta^T, scaled so that |W W^T| is 1; (O, R)."""
    u_OR, s_R, _ = core_svd(adapter.pairs[name])
    size = s_R.double().pow(4).sum().sqrt().clamp_min(1e-300)
    columns: Tensor = u_OR.double() * (s_R.double() / size.sqrt())
    return columns
