"""Changed copies of a zoo's adapters, which leave their tasks nearly as they are: augmentation.

A variant depends on the seed, the entry and a number alone, so a training that was stopped goes on
with the same ones.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.weight_space.augment import AugmentConfig, augmented
from lora_gen.zoo.store import Zoo
from training.order import derive_seed


class Variants:
    """Draws them.

    Args:
        config: Which changes, and how large.
        seed: Draws them, with the entry and its number.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self._kin: dict[str, list[str]] | None = None

    def of(self, zoo: Zoo, entry_id: str, number: int) -> Adapter:
        """Variant `number` of an entry's adapter, maybe without some of its modules.

        Where `config.mix` is set, it may be mixed with others of the zoo for the same task.
        """
        return self._changed(zoo, zoo.load(entry_id), entry_id, number)

    def whole(self, zoo: Zoo, entry_id: str, number: int) -> Adapter:
        """As `of`, but with every module: those that are dropped are zero."""
        adapter = zoo.load(entry_id)
        found = self._changed(zoo, adapter, entry_id, number)
        zeros = {n: _zero(p) for n, p in adapter.pairs.items() if n not in found.pairs}
        return replace(found, pairs={**found.pairs, **zeros})

    def _changed(self, zoo: Zoo, adapter: Adapter, entry_id: str, number: int) -> Adapter:
        source = torch.Generator().manual_seed(derive_seed(self.seed, entry_id, number))
        others = [zoo.load(other) for other in self._others(zoo, entry_id)]
        return augmented(adapter, self.config, source, others=others)

    def _others(self, zoo: Zoo, entry_id: str) -> list[str]:
        if not self.config.mix:
            return []
        if self._kin is None:
            tasks: dict[str, list[str]] = {}
            for entry in zoo.entries():
                tasks.setdefault(entry.task, []).append(entry.id)
            self._kin = {one: found for found in tasks.values() for one in found}
        return [one for one in self._kin[entry_id] if one != entry_id]


def _zero(pair: LoraPair) -> LoraPair:
    return replace(pair, lora_b=torch.zeros_like(pair.lora_b))
