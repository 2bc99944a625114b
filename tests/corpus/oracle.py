"""The oracle: what has to hold for every case at every entrance.

O1 a typed error with a stable code and one plain sentence, and a non-zero exit; O2 at most 5
seconds of processor and 256 MB beyond what the process had; O3 no file is left and none is
touched; O4 the store is as it was; O5 no network; O6 no foreign code; O7 a good request works.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_gen import errors
from tests.corpus.answer import Answer
from tests.corpus.build import adapter
from tests.corpus.case import OK, Case
from tests.corpus.entrances import Entrances
from tests.corpus.entrances_of_services import SKIPPED
from tests.corpus.guard import Guard, peak, reset_peak
from tests.corpus.runs import run
from tests.corpus.words import judge_sentence

SECONDS, MEGABYTES = 5.0, 256
CODES = {kind.code for kind in vars(errors).values() if hasattr(kind, "code")} - {"ERROR"}
GOOD_ENTRANCE = {
    "archive": "archive_of",
    "base_name": "load",
    "request": "request",
    "apply": "load",
    "act": "load",
}
GOOD_REQUEST: dict[str, Any] = {"request": {"text": "a"}, "app_request": {"description": "a"}}
REPORTED = {"doctor": "REFUSED", "index": SKIPPED}
"""Entrances that report what is wrong instead of refusing it, and how."""

_HASHED_BYTES = 5_000_000


@dataclass
class Finding:
    """The verdict on one case at one entrance; `failures` is empty where the oracle is content."""

    case: str
    entrance: str
    code: str
    sentence: str
    seconds: float
    megabytes: float
    failures: list[str] = field(default_factory=list)


class Oracle:
    """Judges cases inside one sandbox."""

    def __init__(self, sandbox: Path) -> None:
        self.sandbox = sandbox
        self.entrances = Entrances(sandbox)
        for name in ("case", "good", "tmp", "cwd", "home"):
            (sandbox / name).mkdir(parents=True)
        adapter(sandbox / "good")
        run()(sandbox)
        os.chdir(sandbox / "cwd")
        os.environ |= {"TMPDIR": str(sandbox / "tmp"), "HOME": str(sandbox / "home")}
        self.warm_up()
        self.guard = Guard(sandbox)

    def warm_up(self) -> None:
        """Every entrance once, so that no import happens under guard."""
        warm = ("load", "doctor", "inspect", "zoo_add", "archive_of", "convert", "upload")
        for entrance in (*warm, "zoo_read", "index", "resume", "app_request"):
            answer = self.entrances.answer(entrance, self._good(entrance), with_base=False)
            assert answer.code == OK, (entrance, answer)
        shutil.rmtree(self.entrances.out)
        for entrance, given in (("apply", "absent"), ("request", {"text": "a"}), ("base_name", "")):
            self.entrances.answer(entrance, given, with_base=False)

    def _good(self, entrance: str) -> Any:
        """What the entrance accepts."""
        if entrance in ("zoo_read", "index"):
            return self.entrances.zoo
        if entrance == "resume":
            return self.sandbox / "run"
        return GOOD_REQUEST.get(entrance, self.sandbox / "good")

    def judge(self, case: Case) -> list[Finding]:
        """The findings on one case at all its entrances."""
        folder = self.sandbox / "case"
        shutil.rmtree(folder)
        folder.mkdir()
        given = case.build(folder)
        return [self._judge(case, entrance, given) for entrance in case.entrances]

    def _judge(self, case: Case, entrance: str, given: Any) -> Finding:
        before, store = snapshot(self.sandbox), digest(self.entrances.zoo)
        size, start = reset_peak(), time.process_time()
        with self.guard.watching() as violations:
            answer = self.entrances.answer(entrance, given, with_base=case.with_base)
        seconds, memory = time.process_time() - start, (peak() - size) / 1e6
        failures = [*violations, *judge_answer(case, entrance, answer)]
        if seconds > SECONDS:
            failures.append(f"O2: {seconds:.1f} seconds of processor, at most {SECONDS}")
        if memory > MEGABYTES:
            failures.append(f"O2: {memory:.0f} MB more, at most {MEGABYTES}")
        after = snapshot(self.sandbox)
        changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        failures += [f"O3: {name} was left, changed or removed" for name in changed[:5]]
        if digest(self.entrances.zoo) != store:
            failures.append("O4: the store has changed")
        failures += self._next_request(entrance)
        return Finding(case.id, entrance, answer.code, answer.sentence, seconds, memory, failures)

    def _next_request(self, entrance: str) -> list[str]:
        entrance = GOOD_ENTRANCE.get(entrance, entrance)
        answer = self.entrances.answer(entrance, self._good(entrance), with_base=False)
        shutil.rmtree(self.entrances.out, ignore_errors=True)
        return [] if answer.code == OK else [f"O7: a good request answers {answer}"]


def judge_answer(case: Case, entrance: str, answer: Answer) -> list[str]:
    """O1: what is wrong with the answer itself."""
    if answer.untyped:
        return [f"O1: {answer.untyped} instead of an error of ours: {answer.sentence}"]
    codes = case.codes
    if entrance in REPORTED and OK not in codes:
        codes = (REPORTED[entrance], *(codes if entrance == "index" else ()))
    if answer.code not in codes:
        return [f"O1: the code is {answer.code} ({answer.sentence}), not {' or '.join(codes)}"]
    if answer.code == OK:
        warned = not case.warns or entrance != "doctor" or re.search(case.warns, answer.warnings)
        return [] if warned else [f"O1: no warning matches {case.warns}: {answer.warnings}"]
    found = judge_sentence(answer.sentence)
    if answer.code != SKIPPED and not re.search(case.says, answer.sentence):
        found.append(f"O1: the sentence does not match `{case.says}`: {answer.sentence}")
    if answer.exit_code == 0:
        found.append("O1: the exit code is 0")
    return found


def snapshot(sandbox: Path) -> dict[str, str]:
    """Name -> kind and content of everything in the sandbox but the store."""
    found = {}
    for folder, names, files in os.walk(sandbox):
        if folder == str(sandbox):
            names.remove("zoo")
        for name in (*names, *files):
            path = os.path.join(folder, name)
            found[os.path.relpath(path, sandbox)] = _content(path)
    return found


def _content(path: str) -> str:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return f"link to {os.readlink(path)}"
    if not stat.S_ISREG(status.st_mode):
        return f"mode {status.st_mode}"
    if status.st_size > _HASHED_BYTES:
        return f"{status.st_size} bytes at {status.st_mtime_ns}"
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def digest(zoo: Path) -> str:
    """The rows of a store and the files of its adapters."""
    connection = sqlite3.connect(f"file:{zoo}/catalog.sqlite?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT * FROM entries ORDER BY id").fetchall()
    finally:
        connection.close()
    files = sorted(path for path in (zoo / "adapters").rglob("*"))
    return repr((rows, [(str(path), _content(str(path))) for path in files]))
