"""Power loss and refusing disks, by recording what an operation does to the disk.

    python -m tests.crash.faults --states 500 --out build/faults.json

The exit code is 1 when any state did not recover.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the factories of the tests

from lora_gen.errors import LoraGenError, StorageError
from tests.crash.disk_recorder import recording
from tests.crash.disk_states import crash_states, folder_of
from tests.crash.operations import OPERATIONS, begin, copy
from tests.crash.report import each_operation, finish

REFUSED = tuple(name for name in OPERATIONS if name != "zoo_migrate")
"""Operations whose steps the shim can refuse; SQLite's own are refused by the sweep."""


def recorded(name, folder):
    """The operation, done once and recorded."""
    operation = OPERATIONS[name]
    with recording(begin(name, folder), exchange=operation.exchange) as recorder:
        operation.run(recorder.root, recorder.acknowledge)
        recorder.look()
    return operation, recorder


def outcomes(name, folder, limit):
    """What was found in each crash state, after recovery."""
    operation, recorder = recorded(name, folder / "run")
    found = []
    for number, state in enumerate(crash_states(recorder, limit)):
        place = folder_of(state, folder, number)
        try:
            found.append(operation.judge(place, state.acknowledged))
        except (AssertionError, LoraGenError) as error:
            raise AssertionError(f"{name}, {state.note}: {error}\n{sorted(state.files)}") from error
    return found


def attempt(name, folder, *, fail_at, failure):
    """Do the operation with one step refused; what was acknowledged, the steps, and the error."""
    operation, error = OPERATIONS[name], None
    acknowledged = []
    options = {"fail_at": fail_at, "failure": failure, "exchange": operation.exchange}
    with recording(folder, **options) as recorder:
        try:
            operation.run(folder, acknowledged.append)
        except StorageError as caught:
            error = caught
    return acknowledged, recorder.steps, error


def refuse_each(name, folder, failure, every=1):
    """Refuse every step, or every few, in turn; returns how many of them were errors."""
    operation, start = OPERATIONS[name], begin(name, folder / "start")
    _, steps, _ = attempt(name, copy(start, folder / "whole"), fail_at=0, failure=failure)
    refused = 0
    for number in range(1, len(steps) + 1, every):
        place, step = copy(start, folder / f"step{number}"), steps[number - 1]
        acknowledged, _, error = attempt(name, place, fail_at=number, failure=failure)
        found = operation.judge(place, acknowledged)
        assert found in operation.outcomes, step
        if error is not None:
            refused += 1
            assert os.strerror(failure) in str(error)
            untouched = acknowledged or operation.ends_late or found == operation.outcomes[0]
            assert untouched, step
            operation.run(place, acknowledged.append)  # in the same process
        assert operation.judge(place, ()) == operation.outcomes[-1], step
    return refused


def measure(name: str, folder: Path, states: int) -> dict[str, object]:
    """Both faults at every step of one operation."""
    _, recorder = recorded(name, folder / "count")
    wrong: list[str] = []
    found: list[str] = []
    refused = 0
    try:
        found = outcomes(name, folder / "states", states)
        wrong += sorted(set(found) - set(OPERATIONS[name].outcomes))
        for failure in (errno.ENOSPC, errno.EIO) if name in REFUSED else ():
            refused += refuse_each(name, folder / errno.errorcode[failure], failure)
    except AssertionError as error:
        wrong.append(str(error))
    counts = dict(Counter(found))
    return {
        "steps": len(recorder.steps),
        "states": len(found),
        "found": counts,
        "refused": refused,
        "wrong": wrong,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--states", type=int, default=500, help="Crash states an operation.")
    parser.add_argument("--operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--out", type=Path, default=None, help="Where to write the JSON report.")
    chosen = parser.parse_args()
    report = each_operation(
        chosen.operations, lambda name, folder: measure(name, folder, chosen.states)
    )
    return finish(report, chosen.out)


if __name__ == "__main__":
    sys.exit(main())
