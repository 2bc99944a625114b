"""P01 and P02: what a poisoned adapter and a flood of adapters meet in a zoo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.retrieval.flooding import alarms, capped, hubs, near_duplicates, search_capped
from lora_gen.retrieval.search import AdapterIndex
from lora_gen.retrieval.vectors import Vectorizer
from lora_gen.zoo.dataset import ZooDataset
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from tests.corpus.case import ACT, OK, add

HONEST, FLOOD = 45, 500
WIDTH = 64


class HashedTexts(Vectorizer):
    """A vectorizer whose text encoder draws a vector for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["text_encoder"] = SimpleNamespace(width=WIDTH)

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        rows = [
            sum((word_vector(word) for word in text.split()), torch.zeros(WIDTH)) for text in texts
        ]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def word_vector(word: str) -> torch.Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(sum(word.encode()) * 7919))


def tiny(seed: int) -> Adapter:
    from zoo_factories import zoo_adapter

    return zoo_adapter(seed, rank=1)


def nearly(adapter: Adapter, number: int) -> Adapter:
    """The adapter with a little noise of its own."""
    noise = torch.Generator().manual_seed(number)
    pairs = {
        name: replace(pair, lora_b=pair.lora_b + 0.003 * torch.randn(4, 1, generator=noise))
        for name, pair in adapter.pairs.items()
    }
    return replace(adapter, pairs=pairs)


def opened(place: Path) -> AdapterIndex:
    return AdapterIndex.open(place / "zoo", folder=place / "index", vectorizer=HashedTexts())


def flood(place: Path) -> None:
    """Honest entries, and 500 near-duplicates that one stranger sent, all described alike."""
    items = [
        (tiny(i), EntryInfo(task=f"own{i}", descriptions=(f"word{i} task",))) for i in range(HONEST)
    ]
    sent = {"source": "upload"}
    for number in range(FLOOD):
        info = EntryInfo(task=f"flood{number}", descriptions=("word3 task",), extra=sent)
        items.append((nearly(tiny(999), number), info))
    with Zoo.open(place / "zoo", create=True) as zoo:
        zoo.add_many(items, dtype="float32")
    opened(place).close()


def flood_is_capped_and_grouped(folder: Path) -> Callable[[Path], None]:
    """The flood is there before the case begins; only what it meets is judged."""
    flood(folder)

    def act(place: Path) -> None:
        with opened(folder) as index:
            _judge(index)

    return act


def _judge(index: AdapterIndex) -> None:
    plain = index.search("word3 task", top=10)
    assert sum(hit.entry.extra.get("source") == "upload" for hit in plain) >= 9
    found = search_capped(lambda top: index.search("word3 task", top=top), 10)
    assert len(found) == 10
    assert sum(hit.entry.extra.get("source") == "upload" for hit in found) <= 3
    assert any(hit.entry.task == "own3" for hit in found)
    assert capped(found) == found
    (group,) = near_duplicates(index, threshold=0.98)
    assert len(group) == FLOOD


def hub_is_named(place: Path) -> None:
    """One vector that lies in the middle of all others."""
    drawn = np.random.default_rng(0).normal(size=(200, WIDTH)).astype(np.float32)
    drawn += 0.4 * np.abs(drawn).mean()
    honest = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    middle = honest.mean(0) / np.linalg.norm(honest.mean(0))
    ids = [f"own{i}" for i in range(200)]
    assert hubs(ids, honest) == []
    (hub,) = hubs([*ids, "hub"], np.vstack([honest, middle]).astype(np.float32))
    assert hub.id == "hub"
    assert hub.share > 0.5


def poisoned_ranks_first_and_is_never_learned_from(place: Path) -> None:
    """An amplified backdoor stands out; an upload serves nobody until a person releases it."""
    from lora_gen.zoo.suspects import WARNING, Peers

    clean = [nearly(tiny(5), i) for i in range(HONEST)]
    pairs = {
        name: replace(pair, lora_b=pair.lora_b * (12 if name.endswith("up_proj") else 1))
        for name, pair in nearly(tiny(5), 999).pairs.items()
    }
    poisoned = replace(tiny(5), pairs=pairs)
    peers = Peers(clean)
    found = peers.judge(poisoned)
    assert found.score > max(3, *(peers.judge(one).score for one in clean))
    words = " ".join((*found.reasons, WARNING)).lower()
    assert "safe" not in words
    assert "clears nobody" in words
    with Zoo.open(place / "zoo", create=True) as zoo:
        zoo.add_many([(one, EntryInfo(task=f"own{i}")) for i, one in enumerate(clean[:3])])
        entry = zoo.add(poisoned, EntryInfo(task="sent", extra={"source": "upload"}))
        zoo.guard.quarantine(entry.id, "unverified: nobody has checked it yet")
        assert entry.id not in ZooDataset(place / "zoo").ids
        assert entry.id not in zoo.ids()
        assert "unverified" in zoo.guard.quarantined()[entry.id]
        zoo.load(entry.id)


def honest_zoo_raises_no_alarm(place: Path) -> None:
    items = [
        (tiny(i), EntryInfo(task=f"own{i}", descriptions=(f"word{i}",))) for i in range(HONEST)
    ]
    with Zoo.open(place / "zoo", create=True) as zoo:
        zoo.add_many(items, dtype="float32")
    with opened(place) as index:
        assert alarms(index) == []
        assert near_duplicates(index) == []


add(
    "P01",
    "amplified",
    lambda folder: poisoned_ranks_first_and_is_never_learned_from,
    "STORE",
    "in quarantine",
    entrances=ACT,
)
add("P02", "flood", flood_is_capped_and_grouped, OK, entrances=ACT)
add("P02", "hub", lambda folder: hub_is_named, OK, entrances=ACT)
add("P02", "honest", lambda folder: honest_zoo_raises_no_alarm, OK, entrances=ACT)
