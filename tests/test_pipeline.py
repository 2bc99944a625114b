from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_factories import dense_vector, tiny_spec
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from generator_factories import (
    WIDTH,
    StubTextEncoder,
    TrueDenoiser,
    tiny_denoiser,
    tiny_layout,
)
from torch import Tensor
from training_factories import ROOT, environment

from lora_gen.adapter.adapter import Adapter
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConditionError, GeneratorError, LayoutMismatchError
from lora_gen.pipeline import LoraGenPipeline
from training.objectives import sample_on_path

SPEC = tiny_spec()
TEXT = "write it in capital letters"
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


@pytest.fixture(scope="module")
def denoiser() -> Any:
    return tiny_denoiser(trained_bases=(SPEC.id, "acme/none")).requires_grad_(False)


@pytest.fixture
def pipe(denoiser: Any) -> LoraGenPipeline:
    made = LoraGenPipeline.build(denoiser)
    made._request._text = StubTextEncoder()  # type: ignore[assignment]
    made.set_progress_bar_config(disable=True)
    return made


def _seed(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _digest(adapter: Adapter) -> str:
    data = hashlib.sha256()
    for pair in adapter.pairs.values():
        data.update(pair.lora_a.numpy().tobytes() + pair.lora_b.numpy().tobytes())
    return data.hexdigest()


def _digests(pipe: LoraGenPipeline, seed: int = 0, **options: Any) -> list[str]:
    options = {"base": SPEC, "rank": 2, "text": TEXT} | options
    return [_digest(a) for a in pipe(generator=_seed(seed), **options).adapters]


def _tokens(pipe: LoraGenPipeline, steps: int, rank: int = 2) -> list[dict[str, Tensor]]:
    """What the callback saw at each step."""
    seen: list[dict[str, Tensor]] = []
    pipe(
        TEXT,
        base=SPEC,
        rank=rank,
        generator=_seed(),
        num_inference_steps=steps,
        callback_on_step_end=lambda p, i, t, tensors: seen.append(tensors) or {},
    )
    return seen


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_pipeline_walks_the_path_that_behavior_is_trained_on(
    pipe: LoraGenPipeline, denoiser: Any, steps: int
) -> None:
    layout = tiny_layout(2)
    prototype = denoiser.prototype(pipe._request.encode(TEXT, None, None, SPEC), layout)
    noise = torch.randn(1, layout.num_tokens, WIDTH + 1, generator=_seed())
    seen = _tokens(pipe, steps)
    for stop in range(steps):
        wanted = sample_on_path(denoiser, prototype, noise, steps=steps, stop=stop)
        torch.testing.assert_close(seen[stop]["clean"], wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen[-1]["latents"], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("scheduler", "steps", "tolerance"),
    [
        (FlowMatchEulerDiscreteScheduler(), 1, 1e-5),
        (FlowMatchEulerDiscreteScheduler(), 5, 1e-5),
        (FlowMatchEulerDiscreteScheduler(shift=3.0), 5, 1e-5),
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), 5, 1e-5),
        (FlowMatchHeunDiscreteScheduler(), 6, 1e-2),
        (DPMSolverMultistepScheduler(**FLOW), 10, 1e-2),
        (DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **FLOW), 10, 1e-2),
        (UniPCMultistepScheduler(**FLOW), 10, 1e-2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_scheduler_returns_the_data_of_a_true_denoiser(
    scheduler: Any, steps: int, tolerance: float
) -> None:
    true = tiny_denoiser(kind=TrueDenoiser, trained_bases=(SPEC.id,))
    true.data = torch.randn(tiny_layout(2).num_tokens, WIDTH + 1, generator=_seed(7))
    pipe = LoraGenPipeline(true, scheduler)
    pipe._request._text = StubTextEncoder()  # type: ignore[assignment]
    found = _tokens(pipe, steps)[-1]["latents"][0]
    torch.testing.assert_close(found, true.data, atol=tolerance, rtol=0)


WRONG = [
    DDPMScheduler(),
    DDIMScheduler(),
    EulerDiscreteScheduler(),
    DPMSolverMultistepScheduler(),
    UniPCMultistepScheduler(prediction_type="flow_prediction"),
]


@pytest.mark.parametrize("scheduler", WRONG, ids=lambda value: type(value).__name__)
def test_schedulers_that_sample_no_flow_are_refused(pipe: LoraGenPipeline, scheduler: Any) -> None:
    kind = scheduler.config.prediction_type
    sentence = rf"`{type(scheduler).__name__}` has prediction_type '{kind}', but this generator"
    with pytest.raises(GeneratorError, match=sentence):
        LoraGenPipeline(pipe.denoiser, scheduler)
    with pytest.raises(GeneratorError, match=sentence):
        pipe.scheduler = scheduler


def test_same_seed_gives_the_same_bytes_and_another_seed_others(pipe: LoraGenPipeline) -> None:
    first = _digests(pipe, 1, num_adapters=2)
    assert _digests(pipe, 1, num_adapters=2) == first
    assert not set(first) & set(_digests(pipe, 2, num_adapters=2))
    assert len(set(first)) == 2


def test_same_seed_gives_the_same_bytes_when_the_scheduler_draws_noise(denoiser: Any) -> None:
    pipe = LoraGenPipeline(denoiser, FlowMatchEulerDiscreteScheduler(stochastic_sampling=True))
    pipe._request._text = StubTextEncoder()  # type: ignore[assignment]
    assert _digests(pipe, 1) == _digests(pipe, 1)


@pytest.mark.parametrize(
    "other",
    [
        {"text": "reverse it"},
        {"prompts": ["Maria Lopez"]},
        {"examples": [("ab", "AB")]},
        {"guidance_scale": 2.0},
        {"num_inference_steps": 2},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_is_asked_changes_the_adapter(pipe: LoraGenPipeline, other: dict[str, Any]) -> None:
    assert _digests(pipe, **other) != _digests(pipe)


def test_guidance_of_one_is_no_guidance(pipe: LoraGenPipeline) -> None:
    assert _digests(pipe, guidance_scale=1.0) == _digests(pipe)


def test_guidance_of_zero_is_the_null_condition(pipe: LoraGenPipeline) -> None:
    found, other = _digests(pipe, guidance_scale=0.0), _digests(pipe, text="x", guidance_scale=0.0)
    assert found == other


def test_adapter_fits_the_base_at_the_rank_asked_for(pipe: LoraGenPipeline) -> None:
    adapter = pipe(TEXT, base=SPEC, rank=3, targets="attention", generator=_seed()).adapters[0]
    assert {p.rank for p in adapter.pairs.values()} == {3}
    assert all("self_attn" in name for name in adapter.pairs)
    for name, pair in adapter.pairs.items():
        shape = SPEC.modules[name]
        assert (pair.out_features, pair.in_features) == (shape.out_features, shape.in_features)
    assert (adapter.base, adapter.task_type) == (SPEC.id, "CAUSAL_LM")


def test_provenance_names_no_seed_that_would_not_repeat_the_bytes(pipe: LoraGenPipeline) -> None:
    used = _seed(5)
    first, second = (pipe(TEXT, base=SPEC, rank=2, generator=used).provenance[0] for _ in range(2))
    assert (first["seed"], second["seed"]) == (5, None)


def test_provenance_says_how_each_adapter_was_made(pipe: LoraGenPipeline) -> None:
    found = pipe(TEXT, base=SPEC, rank=2, num_adapters=2, generator=_seed(5)).provenance
    assert [record["index"] for record in json.loads(json.dumps(found))] == [0, 1]
    wanted = {"text": TEXT, "base": SPEC.id, "rank": 2, "seed": 5, "targets": "all-linear"}
    assert wanted.items() <= found[0].items()


def test_callback_sees_each_step_and_may_replace_the_tokens(pipe: LoraGenPipeline) -> None:
    steps: list[int] = []

    def zero(_: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        steps.append(step)
        assert set(tensors) == {"latents", "clean"}
        return {"latents": torch.zeros_like(tensors["latents"])}

    found = pipe(TEXT, base=SPEC, num_inference_steps=3, callback_on_step_end=zero).adapters[0]
    assert steps == [0, 1, 2]
    assert not any(pair.lora_b.any() for pair in found.pairs.values())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_adapters": 0}, "`num_adapters` must be a whole number between 1 and 64, but is 0"),
        ({"num_adapters": 65}, "between 1 and 64, but is 65"),
        ({"num_adapters": True}, "between 1 and 64, but is True"),
        ({"num_inference_steps": 0}, "`num_inference_steps` must be a whole number between 1 and"),
        ({"num_inference_steps": 1.5}, r"but is 1\.5"),
        ({"guidance_scale": -1.0}, r"`guidance_scale` must be between 0 and 100, but is -1\.0"),
        ({"guidance_scale": float("nan")}, "but is nan"),
    ],
)
def test_options_out_of_range_are_refused(
    pipe: LoraGenPipeline, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(GeneratorError, match=sentence):
        pipe(TEXT, base=SPEC, **options)


def test_a_request_without_content_base_or_rank_is_refused(pipe: LoraGenPipeline) -> None:
    with pytest.raises(ConditionError, match="Nothing was asked: pass `text`, `prompts` or"):
        pipe(base=SPEC)
    with pytest.raises(LayoutMismatchError, match="`rank` must be between 1 and 512, but is 0"):
        pipe(TEXT, base=SPEC, rank=0)
    with pytest.raises(GeneratorError, match="`base` is missing, and this generator does not"):
        LoraGenPipeline.build(tiny_denoiser())(TEXT)


def test_text_encoder_of_other_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    denoiser = tiny_denoiser(text_fingerprint="a" * 64, trained_bases=(SPEC.id,))
    pipe = LoraGenPipeline.build(denoiser)
    sentence = r"`stub` has weights 555555555555…, but this generator was trained with aaaaaaaaaaaa"
    with pytest.raises(ConditionError, match=sentence):
        pipe(TEXT, base=SPEC)


ASKED: dict[str, Any] = {"base": SPEC, "rank": 2, "examples": [("ab", "AB")]}
CHILD = """
import sys, torch
sys.path.insert(0, "tests")
from test_pipeline import ASKED, _digest
from lora_gen.pipeline import LoraGenPipeline
pipe = LoraGenPipeline.from_pretrained(sys.argv[1])
found = pipe(generator=torch.Generator().manual_seed(0), **ASKED).adapters[0]
print(_digest(found), type(pipe.scheduler).__name__)
"""


def test_pipeline_makes_the_same_bytes_in_another_process(
    pipe: LoraGenPipeline, tmp_path: Path
) -> None:
    pipe.scheduler = UniPCMultistepScheduler(**FLOW)
    pipe.save_pretrained(tmp_path)
    found = LoraGenPipeline.from_pretrained(tmp_path)(generator=_seed(), **ASKED).adapters[0]
    said = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert said.stdout.split() == [_digest(found), "UniPCMultistepScheduler"], said.stderr


def test_loaded_pipeline_makes_what_the_saved_one_made(
    pipe: LoraGenPipeline, tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path)
    made = (pipe, LoraGenPipeline.from_pretrained(tmp_path))
    # close, not equal: tensors from a file lie at other alignments, which kernels round differently
    found, wanted = (dense_vector(p(generator=_seed(), **ASKED).adapters[0]) for p in made)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_from_pretrained_refuses_a_folder_that_is_no_generator(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match=r"has no model_index\.json, so it is not a generator"):
        LoraGenPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["acme/none", "../x", "a--b/c", "no such/thing"])
def test_from_pretrained_refuses_a_name_that_cannot_be_fetched(name: str) -> None:
    with pytest.raises(GeneratorError, match=f"`{name}` is neither a folder nor a generator that"):
        LoraGenPipeline.from_pretrained(name)
