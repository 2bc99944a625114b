import json
from dataclasses import replace

import pytest
import torch
from encoder_factories import tiny_encoder

from lora_gen.evaluation.encoder_evidence import Evidence
from lora_gen.evaluation.encoder_leak import recipe_directions
from lora_gen.evaluation.encoder_quality import estimates, goodness, kendall_tau
from lora_gen.evaluation.encoder_quality_report import family_table
from lora_gen.evaluation.encoder_report import write_report
from lora_gen.evaluation.encoder_retrieval import make_gallery, ranks_of, summary
from lora_gen.retrieval.corpus import Corpus, parts_of
from lora_gen.retrieval.encoder import WeightEncoder
from lora_gen.retrieval.facts import FACTS, fact_labels
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.retrieval.readout import ReadoutFit
from lora_gen.retrieval.texts import TextBank

COUNT, MODULES, WIDTH = 150, 2, 56
UNSEEN = ("unseen_argument", "unseen_composition")


@pytest.fixture(scope="module")
def meaning() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(COUNT, 7)


@pytest.fixture(scope="module")
def corpus(meaning: torch.Tensor) -> Corpus:
    """Adapters whose sketches are a linear function of their texts, and nothing else is."""
    torch.manual_seed(1)
    recipes = [{"lr": 1e-3 * (i % 9), "steps": 9, "targets": "mlp"} for i in range(COUNT)]
    facts = [
        {"rank": 2, "steps": 9, "fault": "", "recipe": {**r, "examples": 4, "wrong": 0.2}}
        for r in recipes
    ]
    return Corpus(
        sketches=(meaning @ torch.randn(7, MODULES * WIDTH)).view(-1, WIDTH).half(),
        roles=torch.zeros(COUNT * MODULES, dtype=torch.int64),
        side=torch.randn(COUNT * MODULES, 20).abs().clamp(max=1),
        scale=torch.randn(COUNT * MODULES),
        offsets=torch.arange(COUNT + 1) * MODULES,
        accuracy=torch.rand(COUNT) / 2 + 0.5,
        ids=tuple(f"{i:040x}" for i in range(COUNT)),
        splits=tuple("seen" if i < 100 else UNSEEN[i % 2] for i in range(COUNT)),
        tasks=tuple(str(i) for i in range(COUNT)),
        bases=("tiny",) * COUNT,
        facts=tuple(map(json.dumps, facts)),
    )


@pytest.fixture(scope="module")
def evidence(corpus: Corpus, meaning: torch.Tensor) -> Evidence:
    """A closed-form encoder whose text side is the identity."""
    model = tiny_encoder(
        embed_dim=7, token_dim=16, feature_dim=WIDTH, depth_bins=1, views=("linear",)
    )
    for part in (model.output.weight, model.text.output.weight, model.text.readout):
        torch.nn.init.zeros_(part)
    with torch.no_grad():
        model.text.readout[:7] = torch.eye(7)
    reader = CorpusReader(model, corpus)
    train = list(range(100))
    fit = ReadoutFit(model, corpus, reader.slots, train)
    fit.solve(train, meaning[train], 1e-3)
    texts = TextBank(
        states=(meaning.repeat_interleave(3, 0) + 0.01 * torch.randn(3 * COUNT, 7)).half(),
        offsets=torch.arange(3 * COUNT + 1),
        tasks=tuple(str(i) for i in range(COUNT) for _ in range(3)),
        fingerprint="f",
    )
    return Evidence(
        corpus=corpus,
        first=140,
        texts=texts,
        encoder=WeightEncoder(model),
        parts=parts_of(corpus),
    )


def test_report_tells_a_signal_from_its_controls(evidence: Evidence, tmp_path) -> None:
    found = write_report(evidence, tmp_path)
    methods = found["retrieval"]["methods"]
    top1 = {name: values["all"]["top1"]["value"] for name, values in methods.items()}
    assert top1["encoder"] > 0.9
    assert top1["card text (reads the names)"] > 0.9
    assert max(value for name, value in top1.items() if name.startswith("control")) < 0.3
    assert "control: recipe" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.svg").read_text().endswith("</svg>\n")


def test_gallery_holds_unseen_tasks_alone_and_asks_what_can_be_answered(corpus: Corpus) -> None:
    weak = replace(corpus, accuracy=torch.where(torch.arange(COUNT) == 120, 0.1, corpus.accuracy))
    gallery = make_gallery(weak, UNSEEN, size=45, first=140)
    assert len(gallery.entries) == 45
    assert {corpus.splits[i] for i in gallery.entries} == set(UNSEEN)
    assert "120" not in gallery.tasks
    assert 120 in gallery.entries


def test_regret_is_what_another_choice_would_have_gained(corpus: Corpus) -> None:
    gallery = make_gallery(corpus, UNSEEN, size=0, first=COUNT)
    perfect = summary(gallery.relevant.float(), gallery)["all"]
    assert perfect["regret"]["value"] == 0
    wrong = summary(1 - gallery.relevant.float(), gallery)["all"]
    assert wrong["regret"]["value"] == pytest.approx(float(corpus.accuracy[100:].mean()), abs=1e-5)


def test_ties_count_against_the_method() -> None:
    own = torch.eye(3).bool()
    assert ranks_of(torch.ones(3, 3), own).tolist() == [2, 2, 2]
    assert ranks_of(torch.eye(3), own).tolist() == [0, 0, 0]
    several = torch.tensor([[True, True, False]])
    assert ranks_of(torch.tensor([[0.1, 0.9, 0.5]]), several).tolist() == [0]


def test_kendall_tau_and_r2_are_those_of_hand_made_numbers() -> None:
    truth = torch.tensor([0.0, 0.5, 1.0])
    assert kendall_tau(truth, truth) == pytest.approx(1.0)
    assert kendall_tau(-truth, truth) == pytest.approx(-1.0)
    assert kendall_tau(torch.tensor([0.0, 1.0, 0.5]), truth) == pytest.approx(1 / 3)
    assert goodness(torch.full((3,), 0.5), truth)["r2"] == pytest.approx(0.0)


def test_estimates_hold_the_value_and_a_better_method_gains() -> None:
    torch.manual_seed(0)
    truth = torch.rand(200)
    near, far = truth + 0.1 * torch.randn(200), truth + torch.randn(200)
    found = estimates(near, truth, [str(i // 2) for i in range(200)], against_B=far)
    assert found["tau interval"]["low"] < found["tau"] < found["tau interval"]["high"]
    assert found["r2 interval"]["low"] < found["r2"] < found["r2 interval"]["high"]
    assert found["gain"]["tau"]["low"] > 0.2
    assert found["gain"]["r2"]["low"] > 0.5
    same = estimates(near, truth, [str(i) for i in range(200)], against_B=near)["gain"]["tau"]
    assert (same["low"], same["value"], same["high"]) == (0, 0, 0)


def test_vectors_without_the_directions_of_recipes_have_one_mean() -> None:
    torch.manual_seed(0)
    kind = torch.nn.functional.one_hot(torch.arange(90) % 3).float()
    vectors = torch.randn(90, 8) + kind @ torch.randn(3, 8) * 5
    directions = recipe_directions(vectors, kind)
    assert directions.shape == (8, 2)
    free = vectors - vectors @ directions @ directions.mT
    means = kind.mT @ free / 30
    torch.testing.assert_close(means, means[:1].expand(3, -1), atol=1e-4, rtol=0)


def test_family_is_that_of_the_nearest_adapter(evidence: Evidence) -> None:
    named = replace(evidence.corpus, tasks=tuple(f"{'ab'[i % 2]}_{i}" for i in range(COUNT)))
    known = replace(evidence, corpus=named)
    reader = CorpusReader(evidence.encoder.model, named)
    found = family_table(known, reader, {}, (range(100), range(100)))
    assert found["nearest adapter"]["value"] == 1
    assert (found["kinds"], found["commonest answer"]) == (2, 0.5)


def test_facts_are_read_from_the_recipe(corpus: Corpus) -> None:
    labels = fact_labels(corpus, range(COUNT))
    assert set(labels) == set(FACTS)
    assert set(labels["training examples"].tolist()) == {0}
    assert set(labels["wrong labels"].tolist()) == {1}
    assert set(labels["training"].tolist()) == {1}
    unknown = replace(corpus, facts=(json.dumps({"rank": 2, "steps": 1}),) * COUNT)
    assert set(fact_labels(unknown, [0, 1])["oddness"].tolist()) == {-1}
