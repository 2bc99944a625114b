"""`lora-gen bulk`: one adapter for each task of a file, then its measurement."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_factories import lora_gen
from generator_factories import byte_base, task_pairs, task_zoo, tiny_denoiser
from job_functions import Here, KilledOnce, attempts

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.cli.bulk_generate import generate_many, requests_of
from lora_gen.cli.generate import Asked
from lora_gen.errors import ConfigError
from lora_gen.evaluation.zoo_build import read_tasks
from lora_gen.pipeline import LoraGenPipeline

NAMES = ("upper", "lower", "reverse")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a generator for it, and a file of tasks."""
    folder = tmp_path_factory.mktemp("world")
    base = byte_base(folder / "base")
    spec = BaseModelSpec.from_config(str(base))
    denoiser = tiny_denoiser(trained_bases=(spec.id,))
    LoraGenPipeline.build(denoiser).save_pretrained(folder / "generator")
    rows = [
        {
            "task": name,
            "prompts": [text for text, _ in task_pairs(name, 0, 3)],
            "tests": task_pairs(name, 20, 4),
        }
        for name in NAMES
    ]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _requests(world: Path, **changes: Any) -> dict[str, Asked]:
    shared = Asked(
        text=None,
        prompts=None,
        examples=None,
        base=str(world / "base"),
        rank=2,
        target=None,
        num=1,
        best=False,
        steps=None,
        guidance=None,
        seed=5,
        generator=str(world / "generator"),
        allow_untrained=False,
    )
    tasks = read_tasks(world / "tasks.jsonl", needs=("prompts",))
    return requests_of(tasks, replace(shared, **changes), prompts=True, examples=False)


def _weights(folder: Path) -> dict[str, bytes]:
    return {n: (folder / n / "adapter_model.safetensors").read_bytes() for n in NAMES}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_gen.jobs.JobOptions.run", Here.run)


def test_bulk_generates_what_generate_does(world: Path, tmp_path: Path, here: None) -> None:
    shared = ("--base", world / "base", "--generator", world / "generator", "--rank", 2)
    out = tmp_path / "bulk"
    many = ("--show", "prompts", "--out", out, "--seed", 5)
    result = lora_gen("bulk", "generate", world / "tasks.jsonl", *shared, *many)
    assert result.exit_code == 0, result.output
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(text for text, _ in task_pairs("lower", 0, 3)))
    one = ("--prompts", prompts, "--out", tmp_path / "one", "--seed", 5)
    result = lora_gen("generate", *shared, *one)
    assert result.exit_code == 0, result.output
    alone = (tmp_path / "one" / "adapter_model.safetensors").read_bytes()
    assert _weights(out)["lower"] == alone


def test_bulk_generate_goes_on_and_keeps_what_is_there(world: Path, tmp_path: Path) -> None:
    requests = _requests(world)
    first = {name: requests[name] for name in NAMES[:1]}
    assert [name for name, _ in generate_many(first, tmp_path, Here())] == ["upper"]
    assert [name for name, _ in generate_many(requests, tmp_path, Here())] == list(NAMES[1:])
    assert list(generate_many(requests, tmp_path, Here())) == []


def test_bulk_generate_refuses_a_folder_of_another_request(world: Path, tmp_path: Path) -> None:
    list(generate_many(_requests(world), tmp_path, Here()))
    with pytest.raises(ConfigError, match=r"made for another request \(its `seed` differs\)"):
        list(generate_many(_requests(world, seed=6), tmp_path, Here()))


def test_task_that_cannot_name_a_folder_is_refused(world: Path) -> None:
    shared = _requests(world)["upper"]
    with pytest.raises(ConfigError, match=r"`../up` names a task, but cannot name a folder"):
        requests_of([{"task": "../up"}], shared, prompts=False, examples=False)


def test_failed_request_fails_alone_with_exit_code_one(
    world: Path, tmp_path: Path, here: None
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    rows = [json.loads(line) for line in (world / "tasks.jsonl").read_text().splitlines()]
    rows[1]["prompts"] = ["x" * 100_000]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = ("--base", world / "base", "--generator", world / "generator", "--json")
    many = ("--show", "prompts", "--out", tmp_path / "out")
    result = lora_gen("bulk", "generate", tasks, *shared, *many)
    assert result.exit_code == 1
    assert ["error" in row for row in json.loads(result.stdout).values()] == [False, True, False]


def test_bulk_evaluate_writes_a_report(world: Path, tmp_path: Path, here: None) -> None:
    list(generate_many(_requests(world), tmp_path / "made", Here()))
    options = ("--tasks", world / "tasks.jsonl", "--base", world / "base", "--inputs", 4)
    result = lora_gen("bulk", "evaluate", tmp_path / "made", *options, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "3 done, 0 failed" in result.output
    assert (tmp_path / "out" / "report.md").read_text().count("\n| ") == 3


def test_bulk_encode_brings_the_index_up_to_date_once(
    world: Path, tmp_path: Path, here: None
) -> None:
    zoo = task_zoo(tmp_path / "zoo", world / "base")
    for done in (["the index took in 4 adapters and let go 0"], []):
        result = lora_gen("bulk", "encode", zoo, "--index", tmp_path / "index", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout) == {"entries": 4, "done": done}


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_killed_worker_costs_one_attempt_of_one_adapter(
    world: Path, tmp_path: Path, executor: Any, request: pytest.FixtureRequest
) -> None:
    if executor == "ray":
        request.getfixturevalue("cluster")
    requests = _requests(world)
    jobs = KilledOnce(executor=executor, workers=2, marks=str(tmp_path))
    rows = dict(generate_many(requests, tmp_path / "out", jobs))
    assert {name: row["attempts"] for name, row in rows.items()} == {
        "upper": 2,
        "lower": 1,
        "reverse": 1,
    }
    list(generate_many(requests, tmp_path / "here", Here()))
    assert _weights(tmp_path / "out") == _weights(tmp_path / "here")
    assert [len(attempts(tmp_path, i)) for i in range(3)] == [2, 1, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NAMES)
