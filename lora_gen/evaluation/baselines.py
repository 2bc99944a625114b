"""What a generator must be told apart from: the mean adapter, the nearest description's adapter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import add, scale, truncate
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ZooError
from lora_gen.zoo.store import Zoo

_GROUP = 8
_WORDINGS = 4
"""Descriptions of each entry that are searched; more cost minutes and find hardly anything else."""


def mean_adapter(zoo: Zoo, ids: Sequence[str], *, rank: int) -> Adapter:
    """The adapter whose delta weight is the mean of the zoo's, at `rank`.

    The running sum is cut to eight times `rank` after each group, so memory does not grow with the
    zoo; what is cut is small beside the final cut to `rank`.

    Raises:
        ZooError: There is no adapter to average.
    """
    if not ids:
        raise ZooError(
            "The zoo has no entry of split `seen`, so there is no adapter to average or choose "
            "from. Add the adapters that the generator learned from."
        )
    total: Adapter | None = None
    for start in range(0, len(ids), _GROUP):
        group = [zoo.load(entry_id) for entry_id in ids[start : start + _GROUP]]
        total = truncate(add([total, *group] if total is not None else group), 8 * rank)
    assert total is not None  # there is at least one group
    return truncate(scale(total, 1 / len(ids)), rank)


class NearestText:
    """The zoo's adapter whose description is nearest to a text, by cosine of pooled vectors."""

    def __init__(self, zoo: Zoo, ids: Sequence[str], encoder: TextEncoder) -> None:
        self.encoder = encoder
        owners, texts = [], []
        for entry_id in ids:
            for description in zoo.get(entry_id).descriptions[:_WORDINGS]:
                owners.append(entry_id)
                texts.append(description)
        self.owners = owners
        self.vectors_ME = self._embed(texts)

    def ids_of(self, texts: Sequence[str]) -> list[str]:
        """Entry ids, one for each text."""
        best = (self._embed(texts) @ self.vectors_ME.mT).argmax(1)
        return [self.owners[i] for i in best.tolist()]

    def _embed(self, texts: Sequence[str]) -> Tensor:
        order = sorted(
            range(len(texts)), key=lambda i: len(texts[i])
        )  # equal lengths waste no padding
        rows: list[Tensor] = []
        for start in range(0, len(order), 256):
            states = self.encoder.encode([texts[i] for i in order[start : start + 256]])
            rows.append(self.encoder.pool(states))
        vectors = torch.cat(rows)
        return vectors[torch.tensor(order).argsort()]
