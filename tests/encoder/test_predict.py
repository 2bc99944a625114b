import json
from dataclasses import replace

import pytest
import torch
from adapter_factories import random_adapter
from cli_factories import lora_gen
from encoder_factories import FEATURE_DIM, tiny_encoder, tiny_spec

from lora_gen.adapter.io import save_adapter
from lora_gen.models.quality import QualityEnsemble, spread
from lora_gen.retrieval import predict
from lora_gen.retrieval.encoder import WeightEncoder
from lora_gen.retrieval.facts import SHOWN
from lora_gen.retrieval.fit import fit_reach, fit_support
from lora_gen.retrieval.fit_generated import GeneratedRows, fit_generated
from lora_gen.retrieval.frames import HashedFrames
from lora_gen.retrieval.generated import Learned, generated_inputs


def adapter(seed: int = 0, **options):
    return random_adapter(tiny_spec(), seed=seed, **options)


@pytest.fixture
def encoder():
    """An untrained encoder calibrated on random adapters, seen through small frames."""
    model = tiny_encoder(trained_bases=("tiny",))
    found = WeightEncoder(model, HashedFrames(4))
    assert found.features(adapter()).sketches().shape[1] == FEATURE_DIM
    sets = [found.modules(found.features(adapter(seed))) for seed in range(20)]
    inputs = torch.cat([model.quality_input(model.summary(m), m) for m in sets])
    model.quality.standardize(inputs)
    quality = model.quality(inputs)
    for kind in (0, 1):
        fit_reach(model.quality, kind, quality, quality.mean(1) + 0.05, cover=0.9)
    fit_support(model.quality, inputs, inputs, 1.0)
    return found


def test_adapter_like_the_training_gets_an_interval_around_the_mean(encoder) -> None:
    score = predict.score_adapter(adapter(3), encoder)
    assert score.known
    assert score.low < score.accuracy < score.high
    assert score.high - score.low == pytest.approx(0.1, abs=0.05)


def test_adapter_of_another_base_is_unknown(encoder) -> None:
    score = predict.score_adapter(replace(adapter(3), base="other"), encoder)
    assert (score.known, score.accuracy) == (False, None)
    assert "its base is other" in score.reason


def test_adapter_far_from_the_training_is_unknown(encoder) -> None:
    strong = adapter(3, scaling=1e6)
    score = predict.score_adapter(strong, encoder)
    assert not score.known
    assert score.distance > score.limit
    assert "unlike those of every adapter" in score.reason


def test_description_of_something_else_changes_the_prediction(encoder) -> None:
    torch.nn.init.normal_(encoder.model.quality.members[0][1].weight)
    vector = encoder.embed(encoder.features(adapter(3)))
    right, wrong = (
        predict.score_adapter(adapter(3), encoder, text=text) for text in (vector, -vector)
    )
    assert right.accuracy != pytest.approx(wrong.accuracy, abs=1e-6)
    assert right.facts == wrong.facts


def test_encoder_that_was_not_calibrated_says_so() -> None:
    ensemble = QualityEnsemble(6, 4)
    assert float(ensemble.limit) == 0
    assert not bool(torch.isfinite(ensemble.reach).any())


def test_conformal_reach_covers_what_it_promises() -> None:
    torch.manual_seed(0)
    ensemble = QualityEnsemble(6, 4)
    quality = torch.rand(4000, 5)
    truth = quality.mean(1) + 0.3 * torch.randn(4000) * quality.std(1)
    fit_reach(ensemble, 1, quality[:2000], truth[:2000], cover=0.9)
    error = (truth - quality.mean(1)).abs()[2000:]
    inside = error <= ensemble.reach[1] * spread(quality[2000:])
    assert torch.isinf(ensemble.reach[0])
    assert float(inside.float().mean()) == pytest.approx(0.9, abs=0.03)


def test_reach_is_infinite_where_too_few_were_kept_back() -> None:
    ensemble = QualityEnsemble(6, 4)
    fit_reach(ensemble, 0, torch.rand(3, 5), torch.rand(3), cover=0.9)
    assert torch.isinf(ensemble.reach[0])


def test_score_prints_what_it_knows_as_json(encoder, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(WeightEncoder, "from_pretrained", lambda folder: encoder)
    mine = save_adapter(adapter(2), tmp_path / "mine", exact=True)
    result = lora_gen("score", mine, "--encoder", tmp_path, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["known"] is True
    assert {fact["name"] for fact in found["facts"]} == set(SHOWN)
    table = lora_gen("score", mine, "--encoder", tmp_path).stdout
    assert "90% interval" in table


def test_score_of_a_generated_adapter_is_withheld(encoder, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(WeightEncoder, "from_pretrained", lambda folder: encoder)
    made = save_adapter(adapter(2), tmp_path / "made", exact=True, provenance={"text": "x"})
    found = json.loads(lora_gen("score", made, "--encoder", tmp_path, "--json").stdout)
    assert (found["known"], found["accuracy"], found["facts"]) == (False, None, [])
    assert "it was generated" in found["reason"]


@pytest.fixture
def calibrated(encoder):
    """The encoder, calibrated on adapters whose descriptions say their own vectors."""
    sets = [encoder.modules(encoder.features(adapter(seed))) for seed in range(40)]
    with torch.no_grad():
        vectors = torch.cat([encoder.model.embed(m, encoder.model.summary(m)) for m in sets])
        told = torch.cat(
            [
                encoder.model.quality_input(encoder.model.summary(m), m, (v * v).sum()[None])
                for m, v in zip(sets, vectors, strict=True)
            ]
        )
    learned = Learned(texts=vectors[:8], adapters=vectors[:8])
    rows = GeneratedRows(
        inputs=generated_inputs(learned, told, vectors, vectors),
        truth=torch.linspace(0, 1, 40),
        tasks=tuple(map(str, range(40))),
        kinds=("seen",) * 40,
        ranks=(4,) * 40,
    )
    encoder.generated = fit_generated(learned, rows, rows)
    return encoder


def test_generated_adapter_gets_an_interval_of_its_own(calibrated) -> None:
    text = calibrated.embed(calibrated.features(adapter(3)))
    score = predict.score_generated(adapter(3), calibrated, text=text)
    assert score.known
    assert 0 <= score.low <= score.accuracy <= score.high <= 1
    assert score.facts == ()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"text": None}, "from more, or from other"),
        ({"record": {"examples": [["a", "b"]]}}, "from more, or from other"),
        ({"record": {"guidance_scale": 2.0}}, "from more, or from other"),
    ],
)
def test_generated_adapter_of_another_kind_is_unknown(calibrated, options, reason) -> None:
    text = calibrated.embed(calibrated.features(adapter(3)))
    score = predict.score_generated(adapter(3), calibrated, **{"text": text, **options})
    assert (score.known, score.accuracy) == (False, None)
    assert reason in score.reason


def test_generated_adapter_of_a_larger_rank_is_unknown(calibrated) -> None:
    text = calibrated.embed(calibrated.features(adapter(3)))
    large = random_adapter(tiny_spec(), seed=3, rank=6)
    score = predict.score_generated(large, calibrated, text=text)
    assert not score.known


def test_recipes_that_err_alike_widen_the_intervals() -> None:
    torch.manual_seed(0)
    ensemble = tiny_encoder().quality
    recipes = [str(i // 50) for i in range(400)]
    size = torch.rand(8).repeat_interleave(50)
    quality, truth = torch.full((400, 5), 0.5), 0.5 + 0.4 * size * torch.rand(400)
    fit_reach(ensemble, 0, quality, truth, cover=0.9)
    alone = float(ensemble.reach[0])
    fit_reach(ensemble, 0, quality, truth, cover=0.9, groups=recipes)
    assert float(ensemble.reach[0]) > alone
