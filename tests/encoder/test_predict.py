import json
from dataclasses import replace

import pytest
import torch
from adapter_factories import random_adapter
from cli_factories import lora_gen
from encoder_factories import FEATURE_DIM, tiny_encoder, tiny_spec

from lora_gen.adapter.io import save_adapter
from lora_gen.models.quality import QualityEnsemble
from lora_gen.retrieval import predict
from lora_gen.retrieval.encoder import WeightEncoder
from lora_gen.retrieval.features import module_features
from lora_gen.retrieval.fit import fit_reach, fit_support
from lora_gen.retrieval.frames import HashedFrames


def adapter(seed: int = 0, **options):
    return random_adapter(tiny_spec(), seed=seed, **options)


@pytest.fixture
def encoder(monkeypatch):
    """An untrained encoder calibrated on random adapters, seen through small frames."""
    small = HashedFrames(4)
    assert module_features(adapter(), small).sketches().shape[1] == FEATURE_DIM
    monkeypatch.setattr(predict, "module_features", lambda found: module_features(found, small))
    model = tiny_encoder(trained_bases=("tiny",))
    found = WeightEncoder(model)
    sets = [found.modules(module_features(adapter(seed), small)) for seed in range(20)]
    inputs = torch.cat([model.quality_input(model.summary(m), m) for m in sets])
    quality = model.quality(inputs)
    fit_reach(model.quality, quality, quality.mean(1) + 0.05, 0.9)
    fit_support(model.quality, inputs, inputs)
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


def test_encoder_that_was_not_calibrated_says_so() -> None:
    ensemble = QualityEnsemble(6, 4)
    assert float(ensemble.limit) == 0
    assert not bool(torch.isfinite(ensemble.reach))


def test_conformal_reach_covers_what_it_promises() -> None:
    torch.manual_seed(0)
    ensemble = QualityEnsemble(6, 4)
    quality = torch.rand(4000, 5)
    truth = quality.mean(1) + 0.3 * torch.randn(4000) * quality.std(1)
    fit_reach(ensemble, quality[:2000], truth[:2000], 0.9)
    error = (truth - quality.mean(1)).abs()[2000:]
    inside = error <= ensemble.reach * (quality[2000:].std(1) + 0.02)
    assert float(inside.float().mean()) == pytest.approx(0.9, abs=0.03)


def test_reach_is_infinite_where_too_few_were_kept_back() -> None:
    ensemble = QualityEnsemble(6, 4)
    fit_reach(ensemble, torch.rand(3, 5), torch.rand(3), 0.9)
    assert torch.isinf(ensemble.reach)


def test_score_prints_what_it_knows_as_json(encoder, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(WeightEncoder, "from_pretrained", lambda folder: encoder)
    mine = save_adapter(adapter(2), tmp_path / "mine", exact=True)
    result = lora_gen("score", mine, "--encoder", tmp_path, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["known"] is True
    table = lora_gen("score", mine, "--encoder", tmp_path).stdout
    assert "90% interval" in table
