"""What a report says of itself, and the README's table, which is drawn from the kept ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash import safety_table
from tests.crash.report import command, each_operation, finish

ROOT = Path(__file__).parents[2]


def test_command_leaves_out_the_places_of_this_machine():
    words = ["tool", "--rounds", "9", "--out", "/home/me/a.json", "--folder=/home/me", "--fast"]
    assert command(words).split(" ", 3)[3] == "--rounds 9 --fast"


def test_report_sums_numbers_and_is_ok_when_nothing_is_wrong():
    made = each_operation(["a", "b"], lambda name, _: {"points": len(name), "wrong": []})
    assert (made["points"], made["ok"]) == (2, True)
    made = each_operation(["a", "b"], lambda name, _: {"points": 1, "wrong": [name] * (name > "a")})
    assert not made["ok"]


def test_finish_stamps_and_fails(tmp_path, capsys):
    out = tmp_path / "new" / "report.json"
    assert finish({"ok": False, "machine": {}}, out) == 1
    assert {"command", "date", "code", "machine"} <= json.loads(out.read_text()).keys()


def test_readme_says_what_the_reports_say():
    command = [sys.executable, "-m", "tests.crash.safety_table", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_kept_reports_name_command_day_and_code_and_no_place():
    reports = safety_table.read_reports()
    assert {"fuzz", "kill_rounds", "syscall_sweep", "power_loss"} <= reports.keys()
    for name, report in reports.items():
        assert {*safety_table.STAMP, "machine"} <= report.keys(), name
        assert "/work" not in json.dumps(report), name
        assert "/home" not in json.dumps(report), name


def test_adopt_keeps_parts_as_one_and_asks_for_a_stamp(tmp_path, monkeypatch):
    monkeypatch.setattr(safety_table, "REPORTS", tmp_path / "kept")
    files = [tmp_path / "1.json", tmp_path / "2.json"]
    for file in files:
        file.write_text(json.dumps({"mutants": 5, "failures": [], "machine": {"cores": 2}}))
    with pytest.raises(SystemExit, match="does not say its `code`"):
        safety_table.adopt("fuzz", files, {"command": "c", "date": "d", "code": None})
    safety_table.adopt("fuzz", files, {"command": "c", "date": "d", "code": "e"})
    (row,) = [safety_table.fuzz(r) for r in safety_table.read_reports(tmp_path / "kept").values()]
    assert row[1] == "10 mutants, 0 failures"
