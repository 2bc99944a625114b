from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from picture_factories import base_task, picture_base, random_picture_adapters

from lora_gen.adapter.stacked import stack_adapters
from lora_gen.errors import BaseModelError
from lora_gen.evaluation.pictures import by_component, load_pipeline
from training.picture_objectives import noised, picture_losses


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_noised_latents_hold_the_clean_ones_and_cover_the_timesteps() -> None:
    scheduler = DDIMScheduler(prediction_type="epsilon", clip_sample=False)
    clean = torch.randn(10, 4, 8, 8, generator=_generator())
    found = noised(scheduler, clean, _generator())
    assert sorted((found.timesteps // 100).tolist()) == list(range(10))
    kept = scheduler.alphas_cumprod[found.timesteps][:, None, None, None]
    back = (found.latents - (1 - kept).sqrt() * found.target) / kept.sqrt()
    torch.testing.assert_close(back, clean, rtol=1e-3, atol=1e-3)


def test_noisier_timesteps_come_more_often_below_a_power_of_one() -> None:
    scheduler, clean = DDIMScheduler(), torch.zeros(200, 4, 2, 2)
    timesteps = [
        noised(scheduler, clean, _generator(), timestep_power=power).timesteps
        for power in (0.5, 1.0, 2.0)
    ]
    shares = [(found >= 500).float().mean().item() for found in timesteps]
    assert shares == pytest.approx([0.75, 0.5, 1 - 0.5**0.5], abs=0.01)


def test_noised_latents_need_a_known_prediction_type() -> None:
    with pytest.raises(BaseModelError, match="predicts `sample`, but `epsilon` and"):
        noised(DDIMScheduler(prediction_type="sample"), torch.zeros(2, 4, 8, 8), _generator())


def test_losses_of_a_stack_are_those_of_its_adapters_and_vanish_against_themselves() -> None:
    pipe = load_pipeline(picture_base())
    adapters = random_picture_adapters(2)
    noisy = noised(pipe.scheduler, torch.randn(4, 4, 8, 8, generator=_generator()), _generator())
    states = torch.randn(4, 16, 16, generator=_generator())
    both = by_component(stack_adapters(adapters))["unet"]
    losses = picture_losses(pipe.unet, noisy, states, both)
    for i, adapter in enumerate(adapters):
        alone = by_component(stack_adapters([adapter]))["unet"]
        own = picture_losses(pipe.unet, noisy, states, alone)[2 * i : 2 * i + 2]
        torch.testing.assert_close(losses[2 * i : 2 * i + 2], own, rtol=1e-3, atol=1e-5)
    assert float(picture_losses(pipe.unet, noisy, states, both, teacher=both).max()) == 0


def test_the_base_learns_and_loads_as_an_ordinary_pipeline(tmp_path) -> None:  # type: ignore[no-untyped-def]
    task = base_task(tmp_path)
    loss, _ = task.loss(task.model, task.batch(0), _generator())
    loss.backward()
    assert all(p.grad is not None for p in task.model.unet.conv_in.parameters())
    assert torch.equal(task.batch(3)["pictures"], task.batch(3)["pictures"])
    assert not torch.equal(task.batch(3)["pictures"], task.batch(4)["pictures"])
    (tmp_path / "base").mkdir()
    task.save(tmp_path / "base", task.model)
    pipe = load_pipeline(tmp_path / "base")
    assert type(pipe).__name__ == "StableDiffusionPipeline"
