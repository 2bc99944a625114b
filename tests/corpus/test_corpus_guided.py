"""The fuzz targets: driven by Hypothesis always, and by coverage where atheris is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpus.guided import NAMES, fuzz, has_atheris
from tests.corpus.targets import SEEDS, run

SECONDS = 10
TOKENS = [b"", b"{", b"}", b"[", b'"', b"\0", b"\xff" * 8, b"PK\x05\x06", b"1e999", b"null", b"../"]


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with up to four stretches replaced."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 16)))
        piece = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=16)))
        data = data[:begin] + piece + data[end:]
    return data


@pytest.mark.parametrize("name", NAMES)
def test_damaged_input_is_refused_in_a_sentence_or_read_as_others_read_it(name: str) -> None:
    @settings(
        max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.one_of(damaged(SEEDS[name]), st.binary(max_size=300)))
    def check(data: bytes) -> None:
        run(name, data)

    check()


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_accepted(name: str) -> None:
    assert {run(name, data) for data in SEEDS[name]} == {"OK"}


@pytest.mark.skipif(not has_atheris(), reason="atheris has no wheel for this platform")
@pytest.mark.parametrize("name", NAMES)
def test_coverage_guided_fuzzing_finds_nothing(name: str, tmp_path: Path) -> None:
    found = fuzz(name, seconds=SECONDS, seed=0, keep=tmp_path)
    assert not found["failed"], found["said"]
    assert found["runs"] > 0
    assert found["edges"] >= found["edges_at_start"] > 10
