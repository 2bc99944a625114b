"""The oracle fails where it should: each of its questions, asked about something wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus import weights  # noqa: F401
from tests.corpus.answer import Answer
from tests.corpus.case import CASES
from tests.corpus.oracle import judge_answer, snapshot
from tests.corpus.words import judge_sentence

ROOT = Path(__file__).parents[2]
GUARDED = """
import os, pickle, socket, subprocess, sys
from pathlib import Path
from tests.corpus.guard import Guard
sandbox = Path(sys.argv[1])
(sandbox / "planted.py").write_text("x = 1")
guard = Guard(sandbox)
with guard.watching() as found:
    {action}
print("|".join(found))
"""


@pytest.mark.parametrize(
    ("action", "finding"),
    [
        ("socket.socket().close()", "network: socket.__new__"),
        ("subprocess.run(['true'])", "process: subprocess.Popen"),
        ("os.system('true')", "process: os.system"),
        ("pickle.loads(pickle.dumps(Path('a')))", "pickle: ('pathlib"),
        ("exec('1')", "code: <string> was run"),
        ("sys.path.insert(0, str(sandbox)); import planted", "planted.py was run"),
        ("open('/etc/passwd').close()", "open: /etc/passwd to read"),
        ("open('/dev/shm/corpus-guard', 'w').close()", "to write"),
        ("(sandbox / 'x').write_text('x'); open(sandbox / 'x').close()", ""),
    ],
)
def test_guard_hears(tmp_path: Path, action: str, finding: str) -> None:
    command = [sys.executable, "-c", GUARDED.format(action=action), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    Path("/dev/shm/corpus-guard").unlink(missing_ok=True)
    assert finding in done.stdout
    assert bool(done.stdout.strip()) == bool(finding)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Answer("FORMAT", "`x` is empty."), ""),
        (Answer("OK"), "the code is OK"),
        (Answer("CONFIG", "`x` is empty."), "the code is CONFIG"),
        (Answer("FORMAT", "`x` is full."), "does not match"),
        (Answer("FORMAT", "`x` is empty.", 0), "the exit code is 0"),
        (Answer("UNTYPED", "", untyped="KeyError"), "KeyError instead of an error of ours"),
    ],
)
def test_oracle_judges_an_answer(answer: Answer, failure: str) -> None:
    found = judge_answer(CASES["W01-empty"], "load", answer)
    assert failure in "".join(found)
    assert bool(found) == bool(failure)


@pytest.mark.parametrize(
    "sentence", ["`x` has no end", "nothing is named.", "`a`\x1b[2J.", f"`{'x' * 2000}`."]
)
def test_oracle_judges_words(sentence: str) -> None:
    assert judge_sentence(sentence) != []


def test_oracle_sees_every_file_outside_the_store(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "a").write_text("1")
    before = snapshot(tmp_path)
    (tmp_path / "a").write_text("2")
    os.symlink("a", tmp_path / "b")
    changed = {name for name, content in snapshot(tmp_path).items() if before.get(name) != content}
    assert changed == {"a", "b"}
