"""The disk is full or broken at any step: one sentence, the old state, and work goes on."""

import errno
import os
import resource
import signal

import pytest

from lora_gen.errors import StorageError
from tests.crash.faults import REFUSED, attempt, refuse_each
from tests.crash.operations import OPERATIONS, begin, copy


@pytest.mark.parametrize("name", REFUSED)
def test_disk_that_refuses_a_step_costs_nothing(tmp_path, name):
    assert refuse_each(name, tmp_path, errno.ENOSPC, every=6) > 0


def test_sync_that_failed_is_never_tried_again(tmp_path):
    start = begin("save_adapter", tmp_path / "start")
    _, steps, _ = attempt("save_adapter", copy(start, tmp_path / "w"), fail_at=0, failure=5)
    syncs = [number for number, step in enumerate(steps, start=1) if step.startswith("fsync ")]
    for number in syncs[::3]:
        folder = copy(start, tmp_path / f"sync{number}")
        _, seen, _ = attempt("save_adapter", folder, fail_at=number, failure=errno.EIO)
        assert seen[number:].count(seen[number - 1]) == 0


def _limited(name, folder, limit):
    """In a child: the operation, where no file may grow beyond `limit` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        OPERATIONS[name].run(folder, lambda label: None)
    except StorageError:
        return 3
    return 0


@pytest.mark.parametrize("name", ["save_adapter_over_an_old_one", "zoo_add", "checkpoint"])
def test_file_size_limit_leaves_the_old_state(tmp_path, name):
    operation, start = OPERATIONS[name], begin(name, tmp_path / "start")
    for limit in (100, 700, 3000):
        folder = copy(start, tmp_path / f"limit{limit}")
        child = os.fork()
        if child == 0:
            os._exit(_limited(name, folder, limit))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (0, 3), limit
        assert operation.judge(folder, ()) in operation.outcomes
