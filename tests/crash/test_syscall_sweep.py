from collections import Counter

import pytest

from tests.crash.syscall_sweep import can_trace, points, sweep

needs_strace = pytest.mark.skipif(not can_trace(), reason="strace is missing or may not trace")


@needs_strace
@pytest.mark.parametrize("name", ["save_adapter_over_an_old_one", "zoo_add", "checkpoint"])
def test_ten_points_of_the_sweep_leave_the_old_state_or_the_new_one(tmp_path, name):
    result = sweep(name, tmp_path, sample=10)
    assert (result["points"], result["wrong"]) == (10, [])


def test_points_cover_every_call_with_a_kill_and_an_error():
    found = points(Counter({"fsync": 2, "write": 1}))
    assert {("KILL", "fsync", 2), ("EIO", "fsync", 1), ("ENOSPC", "write", 1)} <= set(found)
    assert ("ENOSPC", "fsync", 1) not in found
