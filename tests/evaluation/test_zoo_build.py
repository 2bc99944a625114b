from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_factories import lora_gen
from generator_factories import byte_base, task_pairs

from lora_gen.errors import ConfigError
from lora_gen.evaluation.zoo_build import BuildOptions, Built, build_zoo, read_tasks
from lora_gen.jobs import JobResult
from lora_gen.zoo.store import Zoo

NAMES = ("upper", "lower", "reverse")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_base(tmp_path_factory.mktemp("world") / "base")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = [
        {
            "task": name,
            "descriptions": [f"make it {name}"],
            "examples": task_pairs(name),
            "tests": task_pairs(name, 20, 2),
        }
        for name in NAMES
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _options(base: Path, **options: Any) -> BuildOptions:
    return BuildOptions(base=str(base), rank=2, steps=2, **options)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs run in this process; the names of those that did."""
    from lora_gen.evaluation.zoo_build import train_task

    ran: list[str] = []

    def run(function: str, jobs: Any, **_: Any) -> Any:
        for name, arguments in jobs.items():
            ran.append(name)
            if name == "lower" and ran.count("lower") == 1:
                yield JobResult(name=name, error="Its worker died (-9).", attempts=3)
            else:
                yield JobResult(name=name, value=train_task(**arguments))

    monkeypatch.setattr("lora_gen.jobs.run_jobs", run)
    return ran


def test_build_goes_on_where_it_stopped(
    base: Path, tasks: Path, tmp_path: Path, here: list[str]
) -> None:
    first = list(build_zoo(tmp_path / "zoo", read_tasks(tasks), _options(base)))
    second = list(build_zoo(tmp_path / "zoo", read_tasks(tasks), _options(base)))
    assert [built.id is None for built in first] == [False, True, False]
    assert here == [*NAMES, "lower"]
    assert [built.task for built in second] == ["lower"]
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert {e.task: (e.rank, e.steps) for e in zoo.entries()} == dict.fromkeys(NAMES, (2, 2))
        assert all(e.accuracy is not None for e in zoo.entries())


def test_build_command_trains_in_a_worker_process(base: Path, tasks: Path, tmp_path: Path) -> None:
    tasks.write_text(tasks.read_text().splitlines()[0] + "\n")
    sizes = ["--rank", 2, "--steps", 2, "--workers", 1, "--json"]
    result = lora_gen("zoo", "build", tmp_path / "zoo", "--tasks", tasks, "--base", base, *sizes)
    assert result.exit_code == 0, result.output
    built = Built(**json.loads(result.stdout)[0])
    assert (built.task, built.error, built.attempts) == ("upper", None, 1)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"task": "a"}', "line 1 is no new task with `task` and `examples`"),
        ('{"task": "a", "examples": [["x", "y"]], "code": 1}', "unknown key `code`"),
        ("", "has no lines"),
    ],
)
def test_tasks_are_refused_by_line(tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "tasks.jsonl").write_text(line and line + "\n")
    with pytest.raises(ConfigError, match=sentence):
        read_tasks(tmp_path / "tasks.jsonl")
