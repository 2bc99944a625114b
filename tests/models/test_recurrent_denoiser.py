from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_factories import tiny_spec
from generator_factories import (
    EXAMPLE_DIM,
    LATENT_DIM,
    WIDTH,
    row_of,
    tiny_condition,
    tiny_denoiser,
    tiny_layout,
)
from torch import Tensor

from lora_gen.codec.scaling import TokenScaling
from lora_gen.conditioning.condition import Condition
from lora_gen.models.recurrent_denoiser import MIN_LEVEL, Prototype, RecurrentDenoiser

LAYOUT = tiny_layout(4)


@pytest.fixture(scope="module", params=[0, 1], ids=["plain", "examples-and-latent"])
def denoiser(request: pytest.FixtureRequest) -> RecurrentDenoiser:
    extra = {"example_dim": EXAMPLE_DIM, "latent_dim": LATENT_DIM} if request.param else {}
    return tiny_denoiser(**extra).requires_grad_(False)


def _noise(rows: int = 2) -> Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.randn(rows, LAYOUT.num_tokens, WIDTH + 1, generator=source)


def _rows(prototype: Prototype, rows: slice) -> Prototype:
    parts = {name: getattr(prototype, name)[rows] for name in ("states", "memory", "mask")}
    return Prototype(**parts)


def test_prototype_of_a_smaller_rank_is_a_prefix(denoiser: RecurrentDenoiser) -> None:
    small = denoiser.prototype(tiny_condition(), LAYOUT.with_rank(2))
    large = denoiser.prototype(tiny_condition(), LAYOUT)
    half = LAYOUT.num_tokens // 2
    assert small.states.shape == (2, half, 16)
    torch.testing.assert_close(small.states, large.states[:, :half], atol=1e-5, rtol=1e-5)
    level = torch.tensor([0.5, 1.0])
    first = denoiser.clean(_noise()[:, :half], level, small)
    whole = denoiser.clean(_noise(), level, large)
    torch.testing.assert_close(first, whole[:, :half], atol=1e-5, rtol=1e-5)


def test_backbone_is_causal_over_slots(denoiser: RecurrentDenoiser) -> None:
    memory, mask = denoiser.condition_encoder(tiny_condition())
    features = LAYOUT.slot_features.clone()
    before = denoiser.backbone(LAYOUT.slot_roles, features, memory, mask)
    features[20:] += 1
    after = denoiser.backbone(LAYOUT.slot_roles, features, memory, mask)
    torch.testing.assert_close(after[:, :20], before[:, :20], atol=1e-6, rtol=1e-6)
    features[20:] -= 1
    features[5] += 1
    assert not torch.allclose(
        denoiser.backbone(LAYOUT.slot_roles, features, memory, mask)[:, 6:], before[:, 6:]
    )


def _masked(condition: Condition) -> dict[str, Condition]:
    zeros = {
        "text": {"text_mask": torch.zeros_like(condition.text_mask)},
        "prompts": {"prompt_bytes": torch.zeros_like(condition.prompt_bytes)},
        "examples": {
            "example_bytes": torch.zeros_like(condition.example_bytes),
            "example_mask": torch.zeros_like(condition.example_mask),
        },
    }
    return {part: replace(condition, **values) for part, values in zeros.items()}


@pytest.mark.parametrize("part", ["text", "prompts", "examples"])
def test_prototype_of_a_missing_part_is_that_of_a_masked_part(
    denoiser: RecurrentDenoiser, part: str
) -> None:
    condition = tiny_condition()
    keep = {"text": False, "prompts": False, "examples": False, part: True}
    missing = denoiser.prototype(condition.null(**keep), LAYOUT).states
    masked = denoiser.prototype(_masked(condition)[part], LAYOUT).states
    torch.testing.assert_close(missing, masked, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(missing, denoiser.prototype(condition, LAYOUT).states, atol=1e-3)


def test_prototype_of_nothing_is_that_of_features_at_zero(denoiser: RecurrentDenoiser) -> None:
    features = torch.zeros_like(tiny_condition().base_features)
    masked = denoiser.prototype(Condition(base_features=features), LAYOUT).states
    torch.testing.assert_close(masked[:1], denoiser.prototype(Condition(), LAYOUT).states)


@pytest.mark.parametrize("row", [0, 1])
def test_row_does_not_depend_on_padding_or_on_other_rows(
    denoiser: RecurrentDenoiser, row: int
) -> None:
    condition, level = tiny_condition(), torch.tensor([0.3, 0.8])
    both = denoiser.prototype(condition, LAYOUT)
    alone = denoiser.prototype(row_of(condition, row), LAYOUT)
    part = slice(row, row + 1)
    torch.testing.assert_close(alone.states, both.states[part], atol=1e-5, rtol=1e-5)
    found = denoiser.clean(_noise()[part], level[part], alone)
    wanted = denoiser.clean(_noise(), level, both)[part]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_text_states_under_the_mask_are_never_read(denoiser: RecurrentDenoiser) -> None:
    condition = tiny_condition()
    wild = torch.where(condition.text_mask[..., None], condition.text_states, 1e4)
    before = denoiser.prototype(condition, LAYOUT).states
    after = denoiser.prototype(replace(condition, text_states=wild), LAYOUT).states
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("level", [1.0, 0.5, 0.01])
def test_flow_is_the_distance_to_the_clean_tokens_over_the_level(
    denoiser: RecurrentDenoiser, level: float
) -> None:
    prototype, level_B = denoiser.prototype(tiny_condition(), LAYOUT), torch.full((2,), level)
    wanted = (_noise() - denoiser.clean(_noise(), level_B, prototype)) / level
    torch.testing.assert_close(denoiser(_noise(), level_B, prototype), wanted)


def test_flow_is_finite_at_level_zero(denoiser: RecurrentDenoiser) -> None:
    prototype, zero = denoiser.prototype(tiny_condition(), LAYOUT), torch.zeros(2)
    clean = denoiser.clean(_noise(), zero, prototype)
    wanted = (_noise() - clean) / MIN_LEVEL
    torch.testing.assert_close(denoiser(_noise(), zero, prototype), wanted)


def test_denoiser_reads_the_noise_level_and_the_condition(denoiser: RecurrentDenoiser) -> None:
    prototype = denoiser.prototype(tiny_condition(), LAYOUT)
    low, high = (denoiser.clean(_noise(), torch.full((2,), t), prototype) for t in (0.25, 1.0))
    assert not torch.allclose(low, high, atol=1e-3)
    same = _noise(1).expand(2, -1, -1)
    first, second = denoiser.clean(same, torch.ones(2), prototype)
    assert not torch.allclose(first, second, atol=1e-3)


def test_network_saves_and_loads_with_what_it_was_trained_on(tmp_path: Path) -> None:
    scaling = {"log_means": {"q/A": -1.5}, "default_log_mean": -2.0, "log_std": 0.4}
    saved = tiny_denoiser(scaling=scaling, text_fingerprint="ab", trained_bases=("acme/tiny",))
    saved.save_pretrained(tmp_path)
    loaded = RecurrentDenoiser.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert loaded.token_scaling == saved.token_scaling == TokenScaling(**scaling)
    assert (loaded.config.text_fingerprint, *loaded.config.trained_bases) == ("ab", "acme/tiny")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_network_serves_a_base_of_another_size_without_change(denoiser: RecurrentDenoiser) -> None:
    spec = tiny_spec("GPT2LMHeadModel")
    layout = tiny_layout(3, spec=spec)
    prototype = denoiser.prototype(row_of(tiny_condition(spec), 0), layout)
    noise = torch.randn(1, layout.num_tokens, WIDTH + 1)
    assert denoiser.clean(noise, torch.ones(1), prototype).shape == noise.shape


def _with_latent(seed: int = 0) -> RecurrentDenoiser:
    return tiny_denoiser(seed, latent_dim=LATENT_DIM).requires_grad_(False)


def test_latent_is_standard_normal_and_only_the_common_part_of_the_noise() -> None:
    source = torch.Generator().manual_seed(3)
    noise = torch.randn(4_000, 80, WIDTH + 1, generator=source)
    latent = _with_latent().latent_of(noise)
    assert latent.shape == (4_000, LATENT_DIM)
    torch.testing.assert_close(latent.std(0), torch.ones(LATENT_DIM), atol=0.05, rtol=0)
    torch.testing.assert_close(latent, _with_latent().latent_of(noise.flip(1)), atol=1e-5, rtol=0)


def test_generator_without_latent_has_none() -> None:
    assert tiny_denoiser().latent_of(_noise()) is None


def test_states_follow_the_latent() -> None:
    condition = tiny_condition()
    other = replace(condition, latent=-condition.latent)
    network = _with_latent()
    first, second = (network.prototype(c, LAYOUT).states for c in (condition, other))
    assert not torch.allclose(first, second, atol=1e-3)
