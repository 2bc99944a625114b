from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import StubTextEncoder, behavior_file, byte_base, task_zoo
from training_factories import losses, weight_hashes

from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from lora_gen.models.baselines.model import METHODS, BaselineModel
from lora_gen.models.baselines.prompt_decoder import LENGTH, PROMPTS
from training.baseline_data import told_records
from training.baseline_losses import delta_loss, masked_mean
from training.baseline_task import BaselineTask, build_baseline_task
from training.behavior_data import read_behaviors
from training.loop import train
from training.recipe import Recipe, parse_recipe
from training.task import TaskContext

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    task_zoo(folder / "zoo", byte_base(folder / "base"))
    behavior_file(folder / "behaviors.jsonl")
    return folder


@pytest.fixture
def recipe(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a recipe of three steps on the tiny world; the first argument is the method."""
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    data: dict[str, Any] = {
        "output_dir": str(tmp_path / "run"),
        "max_steps": 3,
        "batch_size": 2,
        "optimizer": {"lr": 1e-2},
        "lr_scheduler": {"schedule": "constant"},
        "checkpoint": {"every": 1},
        "tracking": {"log_every": 1},
        "task": {
            "name": "baseline",
            "base": str(world / "base"),
            "behaviors": str(world / "behaviors.jsonl"),
            "zoo": str(world / "zoo"),
            "cache": str(world / "cache"),
            "hidden_dim": 16,
            "autoencoder_steps": 2,
            "objective": {
                "lines_per_task": 2,
                "ranks": [2],
                "drop_text": 0.0,
                "show_prompts": 0.0,
                "show_examples": 0.0,
            },
        },
    }
    return lambda method, *more: parse_recipe(data, [f"task.method={method}", *more])


def _task(recipe: Recipe) -> BaselineTask:
    context = TaskContext(seed=0, batch_size=2, device=torch.device("cpu"))
    return build_baseline_task(recipe.task, context)


def _loss(task: BaselineTask, index: int = 0) -> tuple[Any, Any]:
    return task.loss(task.model, task.batch(index), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
def test_baseline_trains_and_its_artifact_writes_adapters(
    recipe: Make, method: str, tmp_path: Path
) -> None:
    assert train(recipe(method)) == 3
    run = tmp_path / "run"
    assert all(torch.tensor(loss).isfinite() for _, loss in losses(run))
    assert weight_hashes(run, 2)["model"] != weight_hashes(run, 3)["model"]
    model = BaselineModel.from_pretrained(run / "final", low_cpu_mem_usage=False)
    assert model.config.method == method
    assert model.config.text_fingerprint == StubTextEncoder.fingerprint


@pytest.mark.parametrize("method", ["cvae", "hypernetwork_behavior"])
def test_baseline_resumes_bitwise(recipe: Make, method: str, tmp_path: Path) -> None:
    train(recipe(method))
    straight = losses(tmp_path / "run"), weight_hashes(tmp_path / "run", 3)
    other = f"output_dir={tmp_path / 'other'}"
    train(recipe(method, other, "max_steps=2"))
    train(recipe(method, other))
    assert (losses(tmp_path / "other"), weight_hashes(tmp_path / "other", 3)) == straight


@pytest.mark.parametrize("method", [m for m in METHODS if m != "latent_diffusion"])
def test_baseline_loss_reaches_every_parameter(recipe: Make, method: str) -> None:
    task = _task(recipe(method))
    _loss(task)[0].backward()
    assert all(p.grad is not None for p in task.model.parameters())


def test_latent_diffusion_learns_its_autoencoder_first_and_then_the_denoiser(recipe: Make) -> None:
    task = _task(recipe("latent_diffusion"))
    for index, expected in ((1, {"direction", "size", "length", "kl"}), (2, {"velocity"})):
        task.model.zero_grad()
        loss, parts = _loss(task, index)
        loss.backward()
        moved = {
            name.split(".")[2]
            for name, parameter in task.model.named_parameters()
            if parameter.grad is not None
        }
        assert set(parts) == expected
        assert (moved == {"autoencoder"}) == (index < 2)
        assert ("autoencoder" in moved) == (index < 2)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("hypernetwork_reconstruction", ()),
        ("hypernetwork_reconstruction", ("task.target=delta",)),
        ("prompt_decoder", ()),
        ("cvae", ("task.kl_weight=0",)),
        ("hypernetwork_behavior", ()),
        ("multi_task", ()),
    ],
)
def test_baseline_fits_one_batch(recipe: Make, method: str, more: tuple[str, ...]) -> None:
    task = _task(recipe(method, *more))
    task.model.eval()
    batch, found = task.batch(0), []
    optimizer = torch.optim.Adam(task.model.parameters(), lr=5e-3)
    for _ in range(60):
        loss, _ = task.loss(task.model, batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.8 * found[0]


def test_copying_baselines_see_tasks_with_an_adapter_alone(recipe: Make) -> None:
    splits = "task.splits=[seen,unseen_composition]"
    task = _task(recipe("cvae", splits))
    assert {record.task for record in task.records} <= set(task.zoo_tokens.rows)  # type: ignore[union-attr]
    assert "input_ids" not in task.batch(0)
    assert len(task.batch(0)["tokens"]) == 2


def test_prompt_decoder_is_trained_on_batches_of_wordings(recipe: Make) -> None:
    task = _task(recipe("prompt_decoder"))
    assert task.batch(0)["prompts"].shape == (2, PROMPTS, LENGTH, StubTextEncoder.width)
    assert torch.equal(task.batch(1)["prompts"], task.batch(1)["prompts"])


def test_told_records_put_a_description_before_every_input(world: Path) -> None:
    (title,) = read_behaviors(world / "behaviors.jsonl", split="unseen_composition")
    (told,) = told_records([title], 0)
    questions = [question for question, _ in told.examples]
    assert [answer for _, answer in told.examples] == [answer for _, answer in title.examples]
    assert {q.split(": ")[0] for q in questions} == set(title.descriptions)
    assert [q.split(": ", 1)[1] for q in questions] == [a for a, _ in title.examples]


def _factors(seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    source = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(3, 2, width, generator=source),
            torch.randn(3, 5, 2, generator=source),
        )
        for name, width in (("one", 4), ("two", 7))
    }


def test_delta_loss_is_the_relative_error_of_dense_products() -> None:
    own, known = _factors(0), _factors(1)
    errors = [
        ((own[n][1] @ own[n][0] - known[n][1] @ known[n][0]).square().sum((1, 2)))
        / (known[n][1] @ known[n][0]).square().sum((1, 2))
        for n in own
    ]
    torch.testing.assert_close(delta_loss(own, known), torch.stack(errors).mean())


def test_delta_loss_does_not_see_the_gauge() -> None:
    own, gauge = _factors(0), torch.tensor([[2.0, 0.5], [-1.0, 1.0]])
    turned = {n: (torch.linalg.inv(gauge) @ a, b @ gauge) for n, (a, b) in own.items()}
    assert float(delta_loss(own, turned)) < 1e-5
    torch.testing.assert_close(delta_loss(turned, _factors(1)), delta_loss(own, _factors(1)))


def test_masked_mean_leaves_padding_out() -> None:
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    errors = torch.tensor([[[1.0, 99.0], [2.0, 3.0]]])
    assert float(masked_mean(errors, mask)) == 2.0


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("task.zoo=null", r"`task\.zoo` is missing, but `task\.method=cvae` copies its"),
        ("task.objective.drop_text=0.1", r"`task\.objective\.drop_text` is 0\.1, but a baseline"),
        ("task.rank=3", r"`task\.rank` is 3, but must be between 1 and the largest of"),
    ],
)
def test_baseline_recipe_is_refused_when(recipe: Make, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        recipe("cvae", override)
