"""A process that is really killed while it adds, removes and rebuilds: the next one goes on."""

import pytest

pytest.importorskip("lancedb", reason="the extra `search` is not installed")

from tests.retrieval.index_kills import kill_round


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_index_of_a_killed_process_is_whole_after_the_next_opening(tmp_path, seed):
    found = kill_round(tmp_path, seed)
    assert found["lost"] == found["stale"] == found["repaired twice"] == 0
    assert found["repaired"] <= 1
