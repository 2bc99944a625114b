"""Caps by source, groups of copies, and hubs, on plain values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lora_gen.retrieval.flooding import capped, hubs, search_capped, source_of


def hits(*sources: str | None) -> list[Any]:
    return [
        SimpleNamespace(number=i, entry=SimpleNamespace(extra={"source": s} if s else {}))
        for i, s in enumerate(sources)
    ]


@pytest.mark.parametrize(
    ("extra", "source"),
    [
        ({}, None),
        ({"source": "upload"}, "upload"),
        ({"source": 7}, None),
        ({"origin": {"source": "acme/lora@" + "0" * 40}}, "acme"),
        ({"origin": {"source": "my-folder"}}, None),
        ({"origin": {"source": "a@b/c"}}, None),
        ({"origin": ["x"]}, None),
    ],
)
def test_source_of_an_entry(extra: dict[str, Any], source: str | None) -> None:
    assert source_of(extra) == source


def test_capped_keeps_the_best_of_each_source_and_all_of_the_operator() -> None:
    found = capped(hits("a", None, "a", "b", None, "a", None, "a"), per_source=2)
    assert [hit.number for hit in found] == [0, 1, 2, 3, 4, 6]


def test_search_capped_looks_behind_a_flood() -> None:
    everything = hits(*["a"] * 500, None, "b")
    found = search_capped(lambda top: everything[:top], 5, per_source=3)
    assert [hit.number for hit in found] == [0, 1, 2, 500, 501]


def test_search_capped_asks_once_where_there_is_no_flood() -> None:
    asked = []

    def search(top: int) -> list[Any]:
        asked.append(top)
        return hits(*[None] * 20)[:top]

    assert len(search_capped(search, 5)) == 5
    assert asked == [5]


def test_hubs_need_enough_vectors_and_ignore_copies() -> None:
    same = np.tile(np.eye(8, dtype=np.float32)[:1], (500, 1))
    assert hubs([str(i) for i in range(500)], same) == []
    assert hubs([], np.zeros((0, 0), np.float32)) == []
