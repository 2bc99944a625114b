from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import (
    SIZES,
    StubTextEncoder,
    behavior_file,
    byte_base,
    task_pairs,
    task_zoo,
)
from training_factories import losses, weight_hashes

from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import CheckpointError, ConfigError
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.provenance import trained_on
from lora_gen.zoo.store import Zoo
from training.ambiguity import AmbiguousRecord, write_ambiguous
from training.behavior_data import TextStateCache, read_behaviors
from training.generator_config import GeneratorTaskConfig
from training.generator_task import GeneratorTask, build_generator_task
from training.loop import train
from training.recipe import Recipe, parse_recipe
from training.task import EvaluatedTask, TaskContext
from training.token_shards import StreamedTokens

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    task_zoo(folder / "zoo", byte_base(folder / "base"))
    behavior_file(folder / "behaviors.jsonl")
    return folder


@pytest.fixture
def recipe(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a recipe of three steps on the tiny world; dotted keys change it."""
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    data: dict[str, Any] = {
        "output_dir": str(tmp_path / "run"),
        "max_steps": 3,
        "batch_size": 2,
        "optimizer": {"lr": 1e-2},
        "lr_scheduler": {"schedule": "constant"},
        "checkpoint": {"every": 1},
        "tracking": {"log_every": 1, "eval_every": 3},
        "task": {
            "name": "generator",
            "base": str(world / "base"),
            "behaviors": str(world / "behaviors.jsonl"),
            "zoo": str(world / "zoo"),
            "cache": str(world / "cache"),
            "model": SIZES,
            "objective": {"lines_per_task": 2, "ranks": [1, 2], "flow_weight": 0.5},
        },
    }
    return lambda *overrides: parse_recipe(data, overrides)


def _task(recipe: Recipe, seed: int = 0) -> GeneratorTask:
    context = TaskContext(seed=seed, batch_size=2, device=torch.device("cpu"))
    return build_generator_task(recipe.task, context)


@pytest.mark.parametrize("behavior", ["labels", "distill"])
def test_generator_trains_and_its_artifact_is_a_pipeline(
    recipe: Make, behavior: str, tmp_path: Path
) -> None:
    assert train(recipe(f"task.objective.behavior={behavior}")) == 3
    run = tmp_path / "run"
    assert [step for step, loss in losses(run) if torch.tensor(loss).isfinite()] == [1, 2, 3]
    hashes = [weight_hashes(run, step)["model"] for step in (2, 3)]
    assert len(set(hashes)) == 2
    pipe = LoraGenPipeline.from_pretrained(run / "final")
    adapter = pipe("make it upper", rank=2).adapters[0]
    assert adapter.max_rank == 2
    assert pipe.denoiser.config.text_fingerprint == StubTextEncoder.fingerprint


def test_generator_resumes_bitwise(recipe: Make, tmp_path: Path) -> None:
    train(recipe())
    straight = losses(tmp_path / "run"), weight_hashes(tmp_path / "run", 3)
    other = f"output_dir={tmp_path / 'other'}"
    train(recipe(other, "max_steps=2"))
    train(recipe(other))
    assert (losses(tmp_path / "other"), weight_hashes(tmp_path / "other", 3)) == straight


def test_generator_batch_depends_on_its_index_and_seed_alone(recipe: Make) -> None:
    first, second, other = (_task(recipe(), seed) for seed in (0, 0, 1))
    for index in (0, 3):
        assert _digest(first.batch(index)) == _digest(second.batch(index))
    assert _digest(first.batch(0)) != _digest(first.batch(1))
    assert _digest(first.batch(0)) != _digest(other.batch(0))


def _digest(batch: dict[str, Any]) -> list[Any]:
    condition = vars(batch["condition"]).values()
    tensors = [*condition, *(batch.get(name) for name in ("input_ids", "open_input_ids"))]
    tensors += [batch["tokens"], batch["rows"]]
    return [batch["rank"], batch["levels"], *(t.tolist() for t in tensors if t is not None)]


def test_generator_paths_fall_from_pure_noise_to_every_level(recipe: Make) -> None:
    task = _task(recipe("batch_size=1", "task.objective.sampler_steps=4"))
    paths = [task.batch(8 * i)["levels"] for i in range(40)]
    assert all(path[0] == 1 and sorted(path, reverse=True) == path for path in paths)
    assert {len(path) for path in paths} == {1, 2, 3, 4}
    assert len({path[-1] for path in paths if len(path) > 1}) > 20
    assert all(0 < path[-1] <= 1 for path in paths)


def test_generator_task_is_one_that_can_measure_itself(recipe: Make) -> None:
    task = _task(recipe())
    assert isinstance(task, EvaluatedTask)
    scores = task.evaluate(task.model, 0)
    assert set(scores) == {"exact_match_seen", "exact_match_validation"}
    assert all(0 <= score <= 1 for score in scores.values())


def test_generator_trains_the_network_and_not_the_base(recipe: Make) -> None:
    task = _task(recipe())
    wanted = sum(p.numel() for p in task.denoiser.parameters())
    assert sum(p.numel() for p in task.model.parameters()) == wanted
    assert not any(p.requires_grad for p in task.base.parameters())


@pytest.mark.parametrize("weight", ["behavior_weight", "flow_weight"])
def test_generator_loss_of_one_objective_alone_has_its_part(recipe: Make, weight: str) -> None:
    task = _task(recipe(f"task.objective.{weight}=0"))
    loss, parts = task.loss(task.model, task.batch(0), torch.Generator().manual_seed(0))
    assert set(parts) == {"behavior", "flow"} - {weight.split("_")[0]}
    loss.backward()
    assert bool(loss.isfinite())


def test_generator_never_sees_tasks_of_other_splits(recipe: Make) -> None:
    task = _task(recipe())
    assert {r.task for r in task.records} == {"upper", "lower", "reverse"}
    assert set(task.zoo_tokens.rows) == {"upper", "lower", "reverse"}  # type: ignore[union-attr]


def test_generator_visits_a_split_as_often_as_it_is_named(recipe: Make) -> None:
    splits = "task.splits=[seen,seen,unseen_composition]"
    counts = Counter(r.task for r in _task(recipe(splits)).records)
    assert counts == {"upper": 2, "lower": 2, "reverse": 2, "title": 1}


def test_zoo_tokens_of_the_cache_are_those_encoded_before(recipe: Make, tmp_path: Path) -> None:
    fresh = f"task.cache={tmp_path / 'cache'}"
    first, second = (_task(recipe(fresh)).zoo_tokens for _ in range(2))
    assert first is not None
    assert second is not None
    assert torch.equal(first.shards.rows([0, 1]), second.shards.rows([0, 1]))
    assert [path.suffix for path in (tmp_path / "cache").rglob("*.*")] == [".safetensors"]


def test_zoo_tokens_without_a_cache_are_those_of_the_zoo_itself(
    recipe: Make, tmp_path: Path
) -> None:
    kept = _task(recipe(f"task.cache={tmp_path / 'cache'}")).zoo_tokens
    streamed = _task(recipe("task.cache=''")).zoo_tokens
    assert kept is not None
    assert streamed is not None
    assert torch.equal(streamed.shards.rows([0, 1]), kept.shards.rows([0, 1]))
    assert streamed.fingerprint == kept.fingerprint
    assert isinstance(streamed.shards, StreamedTokens)


def test_generator_fingerprint_follows_its_data(recipe: Make, tmp_path: Path) -> None:
    same, again = (_task(recipe()).fingerprint() for _ in range(2))
    path = behavior_file(tmp_path / "other.jsonl", count=17)
    other = _task(recipe(f"task.behaviors={path}")).fingerprint()
    assert same == again != other


def test_generator_refuses_to_distill_without_a_zoo() -> None:
    config = GeneratorTaskConfig(base="tiny_lm", behaviors="x", zoo="zoo")
    objective = replace(config.objective, behavior="distill")
    with pytest.raises(ConfigError, match=r"`task\.zoo` is missing, but `task"):
        replace(config, zoo=None, objective=objective)


def test_generator_refuses_to_distill_a_task_without_adapter(
    recipe: Make, world: Path, tmp_path: Path
) -> None:
    zoo = task_zoo(tmp_path / "zoo", world / "base", ("upper", "lower"))
    changed = recipe(f"task.zoo={zoo}", "task.objective.behavior=distill")
    with pytest.raises(ConfigError, match=r"`reverse` has no adapter in `task\.zoo`, but"):
        _task(changed)


def test_generator_refuses_tasks_with_too_few_examples(recipe: Make) -> None:
    sentence = "`upper` has 18 examples, but `task.objective.lines_per_task` is 19. Lower it, or"
    with pytest.raises(ConfigError, match=sentence):
        _task(recipe("task.objective.lines_per_task=19"))


def test_read_behaviors_gives_back_what_was_written(tmp_path: Path) -> None:
    path = behavior_file(tmp_path / "b.jsonl")
    assert len(read_behaviors(path)) == 4
    (title,) = read_behaviors(path, split="unseen_composition")
    assert (title.task, title.examples) == ("title", task_pairs("title"))


@pytest.mark.parametrize("line", ["{", "[]", json.dumps({"task": "a", "split": "seen"})])
def test_read_behaviors_refuses_a_line_that_is_no_record(tmp_path: Path, line: str) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"line 1 is not a record with task, split, descriptions"):
        read_behaviors(path)


def test_read_behaviors_refuses_no_file_and_an_empty_split(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a file\. Make the behavior file with the"):
        read_behaviors(tmp_path / "none")
    path = behavior_file(tmp_path / "b.jsonl")
    with pytest.raises(ConfigError, match="has no record of split 'unseen_argument'"):
        read_behaviors(path, split="unseen_argument")


def test_text_state_cache_gives_the_states_of_the_encoder_in_any_order() -> None:
    encoder, texts = StubTextEncoder(), ["make it upper", "reverse", "a b c d"]
    cache = TextStateCache(encoder, capacity=2)  # type: ignore[arg-type]
    for order in (texts, texts[::-1], [texts[0], texts[0]]):
        states, mask = cache.batch(order)
        wanted = encoder.encode(order)
        assert torch.equal(mask, wanted.mask)
        torch.testing.assert_close(states, wanted.states.half().float())
    assert len(cache._states) == 2


def test_forget_finds_the_runs_that_learned_from_an_entry(
    recipe: Make, world: Path, tmp_path: Path
) -> None:
    train(recipe("checkpoint.every=2", "task.objective.behavior=distill"))
    with Zoo.open(world / "zoo", read_only=True) as zoo:
        seen, *_ = zoo.ids(split="seen")
    learned = trained_on(seen, tmp_path / "elsewhere", [tmp_path / "run"])
    assert learned == {
        str(tmp_path / "run" / name): "learned from it"
        for name in ("checkpoint-2", "checkpoint-3", "final")
    }


def _open(recipe: Make, folder: Path, *more: str) -> Recipe:
    """A recipe with ambiguous descriptions, a latent and examples read through the base."""
    record = AmbiguousRecord(
        split="train", descriptions=("change the case",), readings=("upper", "lower")
    )
    write_ambiguous(folder / "ambiguous.jsonl", [record])
    settings = (
        f"task.ambiguous={folder / 'ambiguous.jsonl'}",
        "task.model.latent_dim=3",
        "task.read_examples=true",
        "task.objective.show_examples=1.0",
        "task.objective.readings.candidates=2",
    )
    return recipe(*settings, *more)


def test_generator_with_ambiguous_descriptions_trains_and_differs_by_noise(
    recipe: Make, tmp_path: Path
) -> None:
    assert train(_open(recipe, tmp_path)) == 3
    pipe = LoraGenPipeline.from_pretrained(tmp_path / "run" / "final")
    assert pipe.denoiser.config.latent_dim == 3
    adapters = pipe("change the case", num_adapters=2).adapters
    first, second = (a.pairs[next(iter(a.pairs))].lora_b for a in adapters)
    assert not torch.allclose(first, second)


def test_generator_reads_examples_through_the_base(recipe: Make, tmp_path: Path) -> None:
    train(_open(recipe, tmp_path))
    pipe = LoraGenPipeline.from_pretrained(tmp_path / "run" / "final")
    made = [
        pipe(examples=[("ab", answer)], generator=torch.Generator().manual_seed(0)).adapters[0]
        for answer in ("AB", "ba")
    ]
    first, second = (a.pairs[next(iter(a.pairs))].lora_b for a in made)
    assert not torch.allclose(first, second)


def test_ambiguous_rows_follow_the_clear_ones(recipe: Make, tmp_path: Path) -> None:
    batch = _task(_open(recipe, tmp_path)).batch(0)
    assert batch["condition"].batch_size == 2 + 2
    assert batch["open_input_ids"].shape[0] == 2 * 2 * 2
    assert batch["condition"].example_mask[2:].sum() == 0
    assert torch.equal(batch["condition"].text_states[2], batch["condition"].text_states[3])


def test_batch_with_ambiguous_rows_depends_on_its_index_alone(recipe: Make, tmp_path: Path) -> None:
    first, second = (_task(_open(recipe, tmp_path)) for _ in range(2))
    assert _digest(first.batch(2)) == _digest(second.batch(2))


def test_generator_starts_from_the_weights_of_another(recipe: Make, tmp_path: Path) -> None:
    train(recipe())
    final = tmp_path / "run" / "final"
    task = _task(_open(recipe, tmp_path, f"task.start_from={final}"))
    wanted = LoraGenPipeline.from_pretrained(final).denoiser.state_dict()
    found = task.denoiser.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert any(name.startswith("condition_encoder.latent") for name in set(found) - set(wanted))


def test_generator_of_another_size_is_no_start(recipe: Make, tmp_path: Path) -> None:
    train(recipe())
    final = tmp_path / "run" / "final"
    with pytest.raises(ConfigError, match=r"whose network differs at `.*`\. Set `task.model`"):
        _task(recipe(f"task.start_from={final}", "task.model.hidden_dim=32"))


def test_generator_of_a_zoo_that_forgot_an_entry_is_not_resumed_but_by_force(
    recipe: Make, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world / "zoo", tmp_path / "zoo")
    own = (f"task.zoo={tmp_path / 'zoo'}", f"task.cache={tmp_path / 'cache'}")
    train(recipe(*own, "max_steps=2"))
    with Zoo.open(tmp_path / "zoo") as zoo:
        forgotten, *_ = zoo.ids(split="seen")
        zoo.guard.forget(forgotten)
    with pytest.raises(CheckpointError, match="belongs to another run: fingerprint was"):
        train(recipe(*own))
    assert train(recipe(*own), force=True) == 3
    assert "Forced: `" in capsys.readouterr().err
    learned = trained_on(forgotten, tmp_path / "zoo", [tmp_path / "run" / "final"])
    assert learned == {str(tmp_path / "run" / "final"): "learned from it"}
