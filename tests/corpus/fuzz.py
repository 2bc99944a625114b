"""`python -m tests.corpus.fuzz --seconds 60 --seed 0`: damaged adapters, judged by the oracle.

Every mutant is read like a stranger's upload. It is accepted whole, or refused by an error of ours
in one sentence; anything else is a failure, printed with the number that makes it again:
`--first NUMBER --mutants 1`. The report is one JSON object; the exit code is 1 for a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.archive import read_archive
from lora_gen.adapter.io import load_adapter
from lora_gen.errors import LoraGenError
from tests.corpus.guard import Guard, address_space, peak, reset_peak
from tests.corpus.mutations import ZIP, Mutant, mutant, original, samples
from tests.corpus.oracle import CODES, MEGABYTES, SECONDS
from tests.corpus.words import judge_sentence

HEADROOM = 1_000_000_000
GOOD_EVERY = 500
KEPT_FAILURES = 20


class Fuzzer:
    """Reads mutants inside one sandbox and counts what came of them."""

    def __init__(self, sandbox: Path) -> None:
        self.sandbox = sandbox
        self.unpacked = sandbox / "unpacked"
        self.samples = samples()
        self.codes: Counter[str] = Counter()
        self.by_sample: Counter[str] = Counter()
        self.failures: list[dict[str, Any]] = []
        for sample in self.samples:
            (sandbox / sample.name).mkdir(parents=True)
            for name, data in sample.files.items():
                (sandbox / sample.name / name).write_bytes(data)
            assert self.judge(original(sample)) == [], self.judge(original(sample))
        self.names = self._names()
        self.guard = Guard(sandbox)

    def run(self, seed: int, number: int) -> None:
        """Judge one mutant; every few, a good adapter right after it."""
        made = mutant(seed, number, self.samples)
        self.by_sample[made.sample.name] += 1
        start = time.process_time()
        with self.guard.watching() as violations:
            failures = self.judge(made)
        if time.process_time() - start > SECONDS:
            failures.append(f"O2: more than {SECONDS} seconds of processor")
        failures += violations
        if number % GOOD_EVERY == 0:
            failures += [
                f"O7: {sample.name}: {failure}"
                for sample in self.samples
                for failure in self.judge(original(sample))
            ]
            if self._names() != self.names:
                failures.append("O3: a file was left or lost")
        if failures:
            record = {"number": number, "sample": made.sample.name, "file": made.file}
            self.failures.append({**record, "how": made.how, "failures": failures})

    def judge(self, made: Mutant) -> list[str]:
        """What is wrong with how a mutant was taken."""
        folder = self.sandbox / made.sample.name
        path = folder / made.file
        path.write_bytes(made.data)
        try:
            adapter = self._read(folder / made.sample.path)
            self.codes["OK"] += 1
            return _judge_adapter(adapter)
        except LoraGenError as error:
            self.codes[error.code] += 1
            known = [] if error.code in CODES else [f"O1: {error.code} is no stable code"]
            return known + judge_sentence(str(error))
        except Exception as error:  # the oracle's very question
            self.codes["UNTYPED"] += 1
            return [f"O1: {type(error).__name__} instead of an error of ours: {error}"[:500]]
        finally:
            path.write_bytes(made.sample.files[made.file])

    def _read(self, path: Path) -> Adapter:
        if path.name != ZIP:
            return load_adapter(path)
        folder = read_archive(path, self.unpacked)
        try:
            return load_adapter(folder)
        finally:
            shutil.rmtree(folder)

    def _names(self) -> set[str]:
        return {str(path) for path in self.sandbox.rglob("*")}


def _judge_adapter(adapter: Adapter) -> list[str]:
    """What is wrong with an adapter that was accepted."""
    found = []
    for name, pair in adapter.pairs.items():
        factors = (pair.lora_a, pair.lora_b)
        if not all(bool(torch.isfinite(factor).all()) for factor in factors):
            found.append(f"{name!r} was accepted with values that are not finite")
        if not 1 <= pair.rank <= 512 or not pair.scaling > 0:
            found.append(f"{name!r} was accepted with rank {pair.rank}, scaling {pair.scaling}")
    return found if adapter.pairs else ["an adapter without modules was accepted"]


def main() -> int:
    """Fuzz for a time or a number, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--mutants", type=int, default=sys.maxsize)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--out", type=Path, help="write the report there, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        fuzzer = Fuzzer(Path(folder).resolve() / "sandbox")
        limit = address_space() + HEADROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        size, start, number = reset_peak(), time.perf_counter(), options.first
        while number - options.first < options.mutants and len(fuzzer.failures) < KEPT_FAILURES:
            if time.perf_counter() - start > options.seconds:
                break
            fuzzer.run(options.seed, number)
            number += 1
        seconds, megabytes = time.perf_counter() - start, (peak() - size) / 1e6
    if megabytes > MEGABYTES:
        fuzzer.failures.append({"failures": [f"O2: {megabytes:.0f} MB more, at most {MEGABYTES}"]})
    report = {
        **{"seed": options.seed, "first": options.first, "mutants": number - options.first},
        **{"seconds": round(seconds, 1), "megabytes": round(megabytes, 1)},
        "mutants_per_second": round((number - options.first) / seconds, 1),
        "by_sample": dict(fuzzer.by_sample.most_common()),
        "by_code": dict(fuzzer.codes.most_common()),
        "failures": fuzzer.failures,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
    text = json.dumps(report, indent=2)
    if options.out is not None:
        options.out.write_text(text + "\n")
    print(text)
    return 1 if fuzzer.failures else 0


if __name__ == "__main__":
    sys.exit(main())
