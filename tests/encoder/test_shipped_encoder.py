"""The encoder that comes with the package, on the adapters that come with it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lora_gen.assets import asset_path
from lora_gen.retrieval.encoder import default_encoder
from lora_gen.retrieval.predict import DOUBTFUL_FIT, score_adapter
from lora_gen.zoo.store import Zoo

FOLDER = asset_path("tiny_lm", "encoder")


@pytest.fixture(scope="module")
def encoder():
    return default_encoder()


@pytest.fixture(scope="module")
def adapters():
    with Zoo.open(asset_path("tiny_lm", "zoo"), read_only=True) as zoo:
        return [zoo.load(entry_id) for entry_id in zoo.ids()[:12]]


def in_another_base(adapter):
    """The adapter as if its base wrote its states in other coordinates."""
    random = torch.Generator().manual_seed(0)
    turns = {w: torch.linalg.qr(torch.randn(w, w, generator=random))[0] for w in (128, 384)}
    pairs = {}
    for name, pair in adapter.pairs.items():
        a_RI, b_OR = (factor.float() for factor in pair.matrices())
        pairs[name] = pair.with_matrices(a_RI @ turns[a_RI.shape[1]], turns[len(b_OR)] @ b_OR)
    return replace(adapter, pairs=pairs)


def test_shipped_encoder_is_at_most_11_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 11 * 2**20


def test_shipped_encoder_knows_the_shipped_adapters(encoder, adapters):
    scores = [score_adapter(adapter, encoder) for adapter in adapters]
    known = [score for score in scores if score.known]
    assert len(known) >= 10
    assert all(score.low <= score.accuracy <= score.high for score in known)


def test_shipped_encoder_doubts_adapters_in_the_coordinates_of_another_base(encoder, adapters):
    for adapter in adapters[:6]:
        own, turned = (score_adapter(a, encoder) for a in (adapter, in_another_base(adapter)))
        assert own.base_fit > DOUBTFUL_FIT
        assert turned.base_fit < own.base_fit - 1
    other = score_adapter(replace(adapters[0], base="other/base"), encoder)
    assert not other.known
    assert "its base is other/base" in other.reason


def test_shipped_report_says_what_the_encoder_reaches():
    report = json.loads((FOLDER / "report.json").read_text())
    methods = report["retrieval"]["methods"]
    best_control = max(
        found["all"]["top1"]["high"] for name, found in methods.items() if "control" in name
    )
    assert methods["encoder"]["all"]["top1"]["low"] > 5 * best_control
    covered = report["quality"]["unseen tasks and recipes"]["methods"]["weights alone"]
    assert 0.87 <= covered["coverage"]["value"] <= 0.93


def test_shipped_intervals_of_generated_adapters_hold_what_they_promise(encoder):
    found = json.loads(Path("docs/encoder/generated.json").read_text(encoding="utf-8"))
    assert 0.87 <= found["splits"]["all"]["coverage"]["value"] <= 0.93
    own, control = (
        found["methods"][name] for name in ("weights and description", "control: norms")
    )
    assert own["r2"] >= control["r2"] + 0.10
    assert float(encoder.generated.max_rank) == 8


def test_shipped_report_says_that_descriptions_tell_quality():
    report = json.loads((FOLDER / "report.json").read_text())["quality"]
    told = report["unseen tasks and recipes"]["methods"]["weights and description"]
    assert told["gain"]["tau"]["value"] >= 0.10
    assert told["gain"]["r2"]["value"] >= 0.10
    assert 0.87 <= told["coverage"]["value"] <= 0.93


def test_shipped_encoder_thinks_little_of_an_adapter_with_another_description(encoder, adapters):
    vectors = [torch.from_numpy(encoder.embed(encoder.features(one))) for one in adapters]
    right = [
        score_adapter(a, encoder, text=v.numpy()) for a, v in zip(adapters, vectors, strict=True)
    ]
    wrong = [
        score_adapter(a, encoder, text=-v.numpy()) for a, v in zip(adapters, vectors, strict=True)
    ]
    known = [(a.accuracy, b.accuracy) for a, b in zip(right, wrong, strict=True) if a.known]
    assert all(wrong < 0.3 < right for right, wrong in known)
