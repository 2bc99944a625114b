"""Sampling that begins at an adapter: partial noise, and modules that stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adapter_factories import dense_delta, dense_vector, random_adapter, tiny_spec
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from generator_factories import StubTextEncoder, TrueDenoiser, tiny_denoiser, tiny_layout

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import resize
from lora_gen.codec.codec import AdapterCodec
from lora_gen.errors import GeneratorError, LayoutMismatchError
from lora_gen.pipeline import LoraGenPipeline

SPEC = tiny_spec()


@pytest.fixture(scope="module")
def pipe() -> LoraGenPipeline:
    made = LoraGenPipeline.build(tiny_denoiser(trained_bases=(SPEC.id,)).requires_grad_(False))
    made._request._text = StubTextEncoder()  # type: ignore[assignment]
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def narrow() -> LoraGenPipeline:
    """As `pipe`, trained at rank 1 alone."""
    denoiser = tiny_denoiser(trained_bases=(SPEC.id,), max_rank=1).requires_grad_(False)
    made = LoraGenPipeline.build(denoiser)
    made._request._text = StubTextEncoder()  # type: ignore[assignment]
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def start() -> Adapter:
    return random_adapter(SPEC, rank=2, seed=3)


def sampled(pipe: LoraGenPipeline, **options: Any) -> Adapter:
    asked = {"base": SPEC, "rank": 2, "generator": torch.Generator().manual_seed(0)} | options
    return pipe("write it in capital letters", **asked).adapters[0]


def test_start_at_full_strength_is_plain_sampling(pipe: LoraGenPipeline, start: Adapter) -> None:
    plain, started = sampled(pipe), sampled(pipe, start_from=start)
    torch.testing.assert_close(dense_vector(started), dense_vector(plain), rtol=0, atol=0)


def test_components_beyond_the_trained_ranks_say_nothing(
    pipe: LoraGenPipeline, narrow: LoraGenPipeline
) -> None:
    free, held = sampled(pipe), sampled(narrow)
    for name, pair in held.pairs.items():
        assert not pair.lora_b[:, 1:].any()
        assert pair.lora_a[1:].any()  # so further training can start
        assert torch.equal(pair.lora_b[:, :1], free.pairs[name].lora_b[:, :1])


def test_components_of_a_start_are_kept(narrow: LoraGenPipeline, start: Adapter) -> None:
    found = sampled(narrow, start_from=start, strength=0.5)
    assert all(pair.lora_b[:, 1:].any() for pair in found.pairs.values())
    plain, started = sampled(narrow), sampled(narrow, start_from=start)
    torch.testing.assert_close(dense_vector(started), dense_vector(plain), rtol=0, atol=0)


def test_partial_noise_shows_the_network_the_adapter(pipe: LoraGenPipeline, start: Adapter) -> None:
    other = random_adapter(SPEC, rank=2, seed=4)
    half, full = (
        [dense_vector(sampled(pipe, start_from=a, strength=s)) for a in (start, other)]
        for s in (0.5, 1.0)
    )
    assert not torch.allclose(half[0], half[1], atol=1e-3)
    torch.testing.assert_close(full[0], full[1], rtol=0, atol=0)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_true_denoiser_returns_the_data_from_any_start(start: Adapter, strength: float) -> None:
    true = tiny_denoiser(kind=TrueDenoiser, trained_bases=(SPEC.id,))
    codec = AdapterCodec(layout=tiny_layout(2), scaling=true.token_scaling)
    wanted = random_adapter(SPEC, rank=2, seed=8)
    true.data = codec.encode(wanted)
    pipe = LoraGenPipeline.build(true)
    pipe._request._text = StubTextEncoder()  # type: ignore[assignment]
    found = sampled(pipe, start_from=start, strength=strength)
    torch.testing.assert_close(dense_vector(found), dense_vector(wanted), atol=1e-3, rtol=1e-2)


def test_kept_modules_stay_and_the_others_change(pipe: LoraGenPipeline, start: Adapter) -> None:
    found = sampled(pipe, start_from=start, keep=["q_proj"])
    for name, pair in found.pairs.items():
        wanted = dense_delta(start.pairs[name])
        close = torch.allclose(dense_delta(pair), wanted, atol=1e-4, rtol=1e-3)
        assert close == name.endswith(".q_proj"), name


def test_everything_kept_is_the_adapter_itself(pipe: LoraGenPipeline, start: Adapter) -> None:
    found = sampled(pipe, start_from=resize(start, 8), keep=list(start.pairs), strength=0.5)
    torch.testing.assert_close(dense_vector(found), dense_vector(start), atol=1e-4, rtol=1e-3)


def test_provenance_says_what_stayed(pipe: LoraGenPipeline, start: Adapter) -> None:
    output = pipe("upper", base=SPEC, rank=2, start_from=start, strength=0.5, keep=["q_proj"])
    assert output.provenance[0]["strength"] == 0.5
    assert output.provenance[0]["keep"] == ["q_proj"]
    assert "strength" not in pipe("upper", base=SPEC, rank=2).provenance[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.5}, "`strength` says how much of an adapter stays, but there is none"),
        ({"keep": ["q_proj"]}, "`keep` says how much of an adapter stays, but there is none"),
        ({"strength": 0.0}, r"`strength` must be above 0 and at most 1, but is 0\.0"),
        ({"strength": 1.5}, r"`strength` must be above 0 and at most 1, but is 1\.5"),
    ],
)
def test_strength_without_a_start_is_refused(
    pipe: LoraGenPipeline, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(GeneratorError, match=message):
        sampled(pipe, **options)


def test_unknown_module_to_keep_is_refused(pipe: LoraGenPipeline, start: Adapter) -> None:
    with pytest.raises(GeneratorError, match="`keep` names `odd_proj`, which is no module"):
        sampled(pipe, start_from=start, keep=["odd_proj"])


def test_start_of_higher_rank_is_refused(pipe: LoraGenPipeline) -> None:
    with pytest.raises(GeneratorError, match=r"`start_from` has rank 4 .* Pass `rank=4`"):
        sampled(pipe, start_from=random_adapter(SPEC, rank=4))


def test_start_of_other_modules_is_refused(pipe: LoraGenPipeline) -> None:
    with pytest.raises(LayoutMismatchError, match="is missing from the adapter"):
        sampled(pipe, start_from=random_adapter(SPEC, rank=2, target="attention"))


def test_scheduler_without_levels_is_refused_at_partial_strength(
    pipe: LoraGenPipeline, start: Adapter
) -> None:
    own = pipe.scheduler
    pipe.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True
    )
    try:
        with pytest.raises(GeneratorError, match=r"cannot begin at noise level 0\.5"):
            sampled(pipe, start_from=start, strength=0.5)
    finally:
        pipe.scheduler = own
    assert isinstance(own, FlowMatchEulerDiscreteScheduler)
