import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli_factories import lora_gen, tiny_adapter, tiny_base

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import add, norm
from lora_gen.adapter.io import load_adapter, save_adapter


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(tiny_base(tmp_path / "base"))


def apart(one: Adapter, two: Adapter) -> float:
    return norm(add([one, two], [1.0, -1.0])) / norm(two)


def test_federate_is_the_mean_by_data(base: str, tmp_path: Path) -> None:
    clients = [tiny_adapter(base, rank=rank, seed=rank) for rank in (2, 3)]
    for name, client in zip("ab", clients, strict=True):
        save_adapter(client, tmp_path / name, exact=True)
    options = ("--sizes", 30, "--sizes", 10, "--out", tmp_path / "server", "--exact", "--json")
    done = lora_gen("federate", tmp_path / "a", tmp_path / "b", *options)
    assert json.loads(done.stdout)["rank"] == 5
    assert apart(load_adapter(tmp_path / "server"), add(clients, [0.75, 0.25])) < 1e-5


def test_federate_wants_a_size_for_each_client(base: str, tmp_path: Path) -> None:
    save_adapter(tiny_adapter(base), tmp_path / "a", exact=True)
    done = lora_gen("federate", tmp_path / "a", tmp_path / "a", "--sizes", 3)
    assert done.exit_code == 2
    assert "`sizes` has 1 numbers for 2 clients." in done.stderr


def run_of(base: str, folder: Path, *, rate: float, steps: int) -> list[Adapter]:
    """Checkpoints whose B approaches its end by a constant rate, saved like a Trainer's."""
    end, found = tiny_adapter(base, rank=2, seed=len(folder.name)), []
    for i in range(steps):
        share = 1 - rate ** (i + 1)
        pairs = {n: replace(p, lora_b=share * p.lora_b) for n, p in end.pairs.items()}
        found.append(replace(end, pairs=pairs))
        save_adapter(found[-1], folder / f"checkpoint-{10 * (i + 1)}", exact=True)
    return found


def test_nowcast_goes_on_as_finished_runs_went(base: str, tmp_path: Path) -> None:
    run_of(base, tmp_path / "done", rate=0.5, steps=7)
    run = run_of(base, tmp_path / "mine-now", rate=0.5, steps=5)
    for late in (40, 50):
        (tmp_path / "mine-now" / f"checkpoint-{late}").rename(tmp_path / f"later-{late}")
    options = ("--learn-from", tmp_path / "done", "--ahead", 2, "--differences", 1)
    done = lora_gen("nowcast", tmp_path / "mine-now", *options, "--out", tmp_path / "o", "--json")
    assert json.loads(done.stdout)["predicted_step"] == 50
    assert apart(load_adapter(tmp_path / "o"), run[4]) < 1e-3


def test_nowcast_refuses_a_folder_without_checkpoints(base: str, tmp_path: Path) -> None:
    run_of(base, tmp_path / "done", rate=0.5, steps=5)
    (tmp_path / "empty").mkdir()
    done = lora_gen("nowcast", tmp_path / "empty", "--learn-from", tmp_path / "done")
    assert done.exit_code == 2
    assert "has 0 folders named checkpoint-STEP" in done.stderr


def test_nowcast_refuses_another_spacing(base: str, tmp_path: Path) -> None:
    for name in ("done", "mine"):
        run_of(base, tmp_path / name, rate=0.5, steps=4)
    (tmp_path / "mine" / "checkpoint-20").rename(tmp_path / "away")
    (tmp_path / "mine" / "checkpoint-10").rename(tmp_path / "mine" / "checkpoint-35")
    (tmp_path / "mine" / "checkpoint-30").rename(tmp_path / "gone")
    done = lora_gen("nowcast", tmp_path / "mine", "--learn-from", tmp_path / "done")
    assert done.exit_code == 2
    assert "has a checkpoint every 10 steps, and" in done.stderr


def test_edit_wants_one_goal(base: str, tmp_path: Path) -> None:
    save_adapter(tiny_adapter(base), tmp_path / "a", exact=True)
    done = lora_gen("edit", tmp_path / "a")
    assert "pass either `--toward` with a zoo, or `--new-words`" in done.stderr
    done = lora_gen("edit", tmp_path / "a", "--new-words", "shout")
    assert "`--new-words` needs to know what the adapter does now" in done.stderr


def test_choose_proposes_options_within_the_budget() -> None:
    options = ("--neighbors", 0, "--candidates", 1, "--budget", 12_000, "--json")
    done = lora_gen("choose", "keep only the digits", *options)
    found = json.loads(done.stdout)["options"]
    assert found[0]["kept"] == max(one["kept"] for one in found) > 0.3
    assert all(one["parameters"] <= 12_000 for one in found)


def test_choose_says_what_the_smallest_option_costs() -> None:
    done = lora_gen("choose", "keep only the digits", "--budget", 10)
    assert done.exit_code == 2
    assert "the smallest option (attention, rank 1) has 4,096" in done.stderr
