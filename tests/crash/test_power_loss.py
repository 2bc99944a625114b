"""The power goes at any moment: whatever a legal file system then holds, everything recovers."""

import pytest

from tests.crash.disk_recorder import recording
from tests.crash.disk_states import crash_states
from tests.crash.faults import outcomes
from tests.crash.operations import OPERATIONS


@pytest.mark.parametrize("name", OPERATIONS)
def test_power_loss_leaves_the_old_state_or_the_new_one(tmp_path, name):
    found = outcomes(name, tmp_path, limit=40)
    allowed = OPERATIONS[name].outcomes
    assert set(found) <= set(allowed)
    assert {allowed[0], allowed[-1]} <= set(found)


def test_power_loss_states_find_a_write_that_was_not_synced(tmp_path):
    """The model itself: a rename without sync can lose the content, and is caught."""
    (tmp_path / "run").mkdir()
    with recording(tmp_path / "run") as recorder:
        (recorder.root / "temp").write_bytes(b"x" * 9000)
        (recorder.root / "temp").rename(recorder.root / "final")
    found = {state.files.get("final") for state in crash_states(recorder, 100)}
    assert {None, b"", b"x" * 9000, b"x" * 4096, b"x" * 4096 + bytes(4904)} <= found


def test_power_loss_states_find_a_rename_whose_folder_was_not_synced(tmp_path):
    (tmp_path / "run").mkdir()
    with recording(tmp_path / "run") as recorder:
        from lora_gen.files import atomic_write_bytes

        atomic_write_bytes(recorder.root / "a", b"new")
        recorder.acknowledge("written")
    states = crash_states(recorder, 100)
    after = {state.files.get("a") for state in states if state.acknowledged}
    before = {state.files.get("a") for state in states if not state.acknowledged}
    assert (after, before) == ({b"new"}, {None, b"new"})
