from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import TEXT_DIM, perturb, tiny_condition, tiny_layout
from torch import Tensor, nn

from lora_gen.codec.scaling import TokenScaling
from lora_gen.conditioning.condition import Condition
from lora_gen.errors import ConditionError, ConfigError
from lora_gen.models.baselines.autoencoder import SlotAutoencoder
from lora_gen.models.baselines.cvae import ConditionalVae, kl_divergence
from lora_gen.models.baselines.latent_diffusion import LATENT_DIM, LatentDiffusion, unit
from lora_gen.models.baselines.model import METHODS, BaselineModel
from lora_gen.models.baselines.prompt_decoder import LENGTH, fixed_length

DRAWN = ("cvae", "latent_diffusion")
READING = [method for method in METHODS if method != "multi_task"]


def _model(method: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = BaselineModel(
        method=method,
        layout=tiny_layout(2).to_dict(),
        scaling={"log_std": TokenScaling().log_std},
        text_dim=TEXT_DIM,
        hidden_dim=16,
    ).eval()
    perturb(model, seed, 0.05)
    return model


def _text() -> Condition:
    whole = tiny_condition()
    return Condition(text_states=whole.text_states, text_mask=whole.text_mask)


def _source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", METHODS)
def test_baseline_writes_the_tokens_of_its_layout(method: str) -> None:
    tokens = _model(method).write(_text(), _source())
    layout = tiny_layout(2)
    assert tokens.shape == (2, layout.num_tokens, layout.width + 1)
    assert bool(tokens.isfinite().all())
    adapter = _model(method).codec.decode(tokens[0])
    assert {pair.rank for pair in adapter.pairs.values()} == {2}


@pytest.mark.parametrize("method", METHODS)
def test_baseline_is_decided_by_its_seed(method: str) -> None:
    model = _model(method)
    first, same, other = (model.write(_text(), _source(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert torch.equal(first, other) == (method not in DRAWN)


@pytest.mark.parametrize("method", READING)
def test_baseline_answers_what_is_asked(method: str) -> None:
    model, asked = _model(method), _text()
    other = replace(asked, text_states=-asked.text_states)  # type: ignore[operator]
    assert not torch.allclose(model.write(asked, _source()), model.write(other, _source()))


@pytest.mark.parametrize("method", READING)
def test_baseline_ignores_padding_of_the_text(method: str) -> None:
    model, asked = _model(method), _text()
    states = nn.functional.pad(asked.text_states, (0, 0, 0, 3), value=7.0)  # type: ignore[arg-type]
    mask = nn.functional.pad(asked.text_mask, (0, 3))  # type: ignore[arg-type]
    padded = Condition(text_states=states, text_mask=mask)
    torch.testing.assert_close(model.write(asked, _source()), model.write(padded, _source()))


@pytest.mark.parametrize("method", READING)
def test_baseline_refuses_a_request_without_text(method: str) -> None:
    bare = Condition(base_features=tiny_condition().base_features)
    with pytest.raises(ConditionError, match="`text` is missing, but this baseline reads nothing"):
        _model(method).write(bare, _source())


@pytest.mark.parametrize("method", METHODS)
def test_baseline_saved_and_loaded_writes_the_same(method: str, tmp_path: Path) -> None:
    model = _model(method)
    model.save_pretrained(tmp_path)
    again = BaselineModel.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
    assert torch.equal(model.write(_text(), _source()), again.write(_text(), _source()))
    assert again.is_told == (method == "multi_task")
    assert again.codec.layout == tiny_layout(2)


def test_baseline_of_no_known_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="`method` is 'gan', but the baselines are hypernetwork"):
        _model("gan")


def test_hypernetwork_heads_write_the_slots_of_their_role_alone() -> None:
    model, layout = _model("hypernetwork_behavior"), tiny_layout(2)
    role = layout.modules[0].role
    nn.init.zeros_(model.network.heads[role].weight)
    is_zero = (model.write(_text(), _source()) == 0).all(-1).all(0)
    slots = [
        m.role
        for _ in range(2)
        for m in layout.modules
        for _ in range(layout.chunks(m.in_features) + layout.chunks(m.out_features))
    ]
    assert is_zero.tolist() == [name == role for name in slots]


def test_kl_divergence_is_least_at_the_prior() -> None:
    zero = torch.zeros(3, 5)
    assert float(kl_divergence(zero, zero)) == 0
    for seed in range(20):
        mean, log_variance = torch.randn(2, 3, 5, generator=_source(seed))
        assert float(kl_divergence(mean, log_variance)) > 0


def test_vae_reads_and_writes_every_value() -> None:
    torch.manual_seed(0)
    layout = tiny_layout(2)
    network = ConditionalVae(layout, TEXT_DIM, 8).eval()
    shape = (2, layout.num_tokens, layout.width + 1)
    tokens = torch.randn(shape, generator=_source()).requires_grad_()
    found, mean, _ = network(tokens, _text(), torch.zeros(2, 8))
    assert found.shape == shape
    mean.sum().backward()
    assert bool((tokens.grad != 0).all())  # type: ignore[union-attr]


def test_autoencoder_answers_with_the_one_expert_that_its_router_picks() -> None:
    torch.manual_seed(0)
    layout = tiny_layout(1)
    network = SlotAutoencoder(layout, 4)
    latent = torch.randn(2, layout.num_tokens, 4, generator=_source())
    x = torch.cat([latent, network.place.expand(2, -1, -1)], -1)
    best = network.router(x).argmax(-1)
    answers = torch.stack([expert(x) for expert in network.experts], 2)
    picked = answers.gather(2, best[..., None, None].expand(-1, -1, 1, answers.shape[-1]))[:, :, 0]
    torch.testing.assert_close(network.decode(latent), picked)
    network.decode(latent).square().sum().backward()
    assert bool((network.router.weight.grad != 0).any())  # type: ignore[union-attr]


class _TrueVelocity(LatentDiffusion):
    """Knows the latents: v = a noise - s data at the step's scale a and noise level s."""

    data: Tensor

    def forward(self, noisy_BNZ: Tensor, step_B: Tensor, condition: Condition) -> Tensor:
        kept = self.noise_scheduler.alphas_cumprod[int(step_B[0])]
        a, s = kept.sqrt(), (1 - kept).sqrt()
        noise = (noisy_BNZ - a * self.data) / s
        return a * noise - s * self.data


def test_latent_diffusion_with_the_true_velocity_returns_the_data() -> None:
    torch.manual_seed(0)
    layout = tiny_layout(2)
    network = _TrueVelocity(layout, TEXT_DIM, 16).eval()
    network.data = unit(torch.randn(2, layout.num_tokens, LATENT_DIM, generator=_source()))
    wanted = network.autoencoder.decode(network.data)
    torch.testing.assert_close(network.write(_text(), _source(3)), wanted, atol=1e-4, rtol=1e-4)


def test_latent_diffusion_ends_in_almost_pure_noise() -> None:
    kept = LatentDiffusion(tiny_layout(1), TEXT_DIM, 16).noise_scheduler.alphas_cumprod
    assert bool((kept.diff() < 0).all())
    assert float(kept[0]) > 0.999
    assert float(kept[-1]) < 0.01


def test_fixed_length_cuts_and_pads_with_zeros() -> None:
    states, mask = torch.ones(2, LENGTH + 5, 3), torch.ones(2, LENGTH + 5, dtype=torch.bool)
    mask[1, 2:] = False
    fixed = fixed_length(states, mask)
    assert fixed.shape == (2, LENGTH, 3)
    assert fixed.sum((1, 2)).tolist() == [3 * LENGTH, 6]
