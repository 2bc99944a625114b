"""Kill, ENOSPC and EIO at every system call of an operation that touches the disk, by strace.

    python -m tests.crash.syscall_sweep --out build/syscall_sweep.json

Nothing is simulated: the kernel, SQLite and safetensors do what they do. Needs strace and the right
to trace one's own children. The exit code is 1 when any point left a half state.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the factories of the tests

from lora_gen.errors import StorageError
from tests.crash.operations import OPERATIONS, begin, copy
from tests.crash.report import each_operation, finish

CALLS = (
    *("write", "pwrite64", "fsync", "fdatasync", "ftruncate"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
)
ERRORS = {"ENOSPC": ("write", "pwrite64", "mkdir", "rename"), "EIO": CALLS}
REFUSED, BROKEN = 3, 4


def can_trace() -> bool:
    """Whether strace is here and may trace our children."""
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return done.returncode == 0


def traced(name: str, folder: Path, inject: tuple[str, ...] = ()) -> tuple[int, list, Counter]:
    """Do the operation in a traced child; its exit code, acknowledgments, and calls by name."""
    said = mmap.mmap(-1, 4096)  # shared memory, so that acknowledging is no system call
    waits, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(waits, 1)
        os._exit(_work(name, folder, said))
    os.close(waits)
    log = folder.with_suffix(".strace")
    calls = ",".join(f"?{call}" for call in CALLS)
    command = ["strace", "-o", str(log), "-e", f"trace={calls}", *inject, "-p", str(child)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        if b"attached" not in strace.stderr.readline():
            raise OSError("strace could not attach to a child")
        os.write(go, b"x")
    except OSError:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(go)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        strace.communicate()
    counts = Counter(
        line.partition("(")[0] for line in log.read_text(errors="replace").splitlines()
    )
    log.unlink()
    text = said[:].rstrip(b"\0").decode()
    return code, text.splitlines(), Counter({call: counts[call] for call in CALLS if counts[call]})


def _work(name: str, folder: Path, said: mmap.mmap) -> int:
    try:
        OPERATIONS[name].run(folder, lambda label: said.write(f"{label}\n".encode()))
    except StorageError:
        return REFUSED
    except BaseException as error:
        said.write(f"{type(error).__name__}: {error}".encode()[:3000])
        return BROKEN
    return 0


def points(counts: Counter) -> list[tuple[str, str, int]]:
    """(what happens, call, number) of every point of an operation."""
    found = [("KILL", call, n) for call, count in counts.items() for n in range(1, count + 1)]
    for error, calls in ERRORS.items():
        found += [(error, call, n) for call in calls for n in range(1, counts[call] + 1)]
    return found


def check(name: str, start: Path, folder: Path, point: tuple[str, str, int]) -> str:
    """What is wrong after one point, or an empty text."""
    kind, call, number = point
    what = "signal=SIGKILL" if kind == "KILL" else f"error={kind}"
    copy(start, folder)
    code, said, _ = traced(name, folder, ("-e", f"inject=?{call}:{what}:when={number}"))
    if code == BROKEN:
        return f"{point}: {said[-1]}"
    if kind == "KILL" and code != -signal.SIGKILL:
        return f"{point}: was not killed ({code})"
    operation = OPERATIONS[name]
    try:
        found = operation.judge(folder, tuple(said))
    except Exception as error:
        return f"{point}: {type(error).__name__}: {error}"
    if found not in operation.outcomes:
        return f"{point}: found {found}"
    if code == REFUSED and not said and not operation.ends_late and found != operation.outcomes[0]:
        return f"{point}: refused, but found {found}"
    return ""


def sweep(name: str, folder: Path, sample: int = 0) -> dict[str, object]:
    """All points of one operation, or `sample` of them."""
    start = begin(name, folder / "start")
    code, _, counts = traced(name, copy(start, folder / "whole"))
    assert code == 0, f"{name} fails without any fault"
    chosen = points(counts)
    if sample and sample < len(chosen):
        chosen = random.Random(0).sample(chosen, sample)
    wrong = []
    for number, point in enumerate(chosen):
        place = folder / f"point{number}"
        wrong += [sentence] if (sentence := check(name, start, place, point)) else []
        shutil.rmtree(place)
    return {"calls": sum(counts.values()), "points": len(chosen), "wrong": wrong}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--sample", type=int, default=0, help="Points for each; 0 is all.")
    parser.add_argument("--out", type=Path, default=None, help="Where to write the JSON report.")
    parser.add_argument("--folder", type=Path, default=None, help="On the disk to measure.")
    chosen = parser.parse_args()
    if not can_trace():
        print("`strace` is missing or may not trace here. Install it: apt-get install strace.")
        return 2
    report = each_operation(
        chosen.operations,
        lambda name, folder: sweep(name, folder, chosen.sample),
        folder=chosen.folder,
    )
    return finish(report, chosen.out)


if __name__ == "__main__":
    sys.exit(main())
