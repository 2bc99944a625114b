from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_factories import random_adapter
from encoder_factories import tiny_spec
from retrieval_factories import text_vectors

from lora_gen.conditioning.text import TextEncoder, TextStates
from lora_gen.errors import ConfigError
from lora_gen.retrieval.corpus import Corpus, CorpusConfig, corpus_of, parts_of
from lora_gen.retrieval.encoder import WeightEncoder
from lora_gen.retrieval.fit import modules_of
from lora_gen.retrieval.texts import TextBank, text_bank
from lora_gen.weight_space.augment import AugmentConfig
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from training.encoder_data import load_encoder_data
from training.encoder_quality import quality_rows
from training.encoder_task import (
    EncoderTask,
    ReversedGradient,
    contrastive_loss,
    retrieval_ranks,
)
from training.loop import train
from training.recipe import Recipe, parse_recipe
from training.task import TaskContext

COUNT = 24


class BagEncoder:
    """Every word a token, hashed to a one-hot state."""

    name, fingerprint, width = "bag", "f" * 64, 64

    def encode(self, texts: list[str]) -> TextStates:
        rows = [text_vectors(text.split()) for text in texts]
        states = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        return TextStates(states=states, mask=torch.arange(states.shape[1]) < lengths[:, None])


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda *a, **k: BagEncoder())
    items = []
    for i in range(COUNT):
        split = "seen" if i < COUNT - 4 else "unseen_composition"
        texts = (f"do task number {i}", f"number {i} is the task")
        info = EntryInfo(task=f"t{i}", split=split, descriptions=texts, accuracy=i / COUNT)
        items.append((random_adapter(tiny_spec(), rank=2, seed=i), info))
    with Zoo.open(tmp_path / "zoo", create=True) as opened:
        opened.add_many(items)
    return tmp_path / "zoo"


def recipe(zoo: Path, **changes: Any) -> Recipe:
    return parse_recipe(
        {
            "output_dir": str(zoo.parent / "run"),
            "max_steps": 60,
            "batch_size": 8,
            "optimizer": {"lr": 5e-3},
            "tracking": {"log_every": 1},
            "task": {
                "name": "encoder",
                "zoos": [str(zoo)],
                "min_accuracy": 0.0,
                "cache": str(zoo.parent / "cache"),
                "calibration_share": 0.3,
                "coverage": 0.6,
                "corpus": {"sketch": 4, "wordings": 2, "views": ["linear", "polar"]},
                "model": {
                    "token_dim": 16,
                    "hidden_dim": 16,
                    "embed_dim": 16,
                    "text_hidden": 16,
                    "dropout": 0.0,
                },
                "objective": {"content_noise": 0.0, "module_dropout": 0.1, "quality_steps": 20},
            },
            **changes,
        }
    )


def test_training_learns_its_adapters_and_writes_a_calibrated_encoder(zoo: Path) -> None:
    train(recipe(zoo))
    encoder = WeightEncoder.from_pretrained(zoo.parent / "run" / "final")
    assert encoder.trained_bases == ("tiny",)
    assert bool(torch.isfinite(encoder.model.quality.reach).all())
    assert float(encoder.model.quality.limit) > 0
    from training.metrics import read_metrics

    lines = [x for x in read_metrics(zoo.parent / "run" / "metrics.jsonl") if "contrast" in x]
    assert lines[-1]["contrast"] < 0.5 * lines[0]["contrast"]


def test_corpus_is_computed_once_and_read_back(zoo: Path, tmp_path: Path) -> None:
    with Zoo.open(zoo, read_only=True) as opened:
        first = corpus_of(opened, CorpusConfig(sketch=4), tmp_path / "features")
        (path,) = (tmp_path / "features").iterdir()
        written = path.stat().st_mtime_ns
        second = corpus_of(opened, CorpusConfig(sketch=4), tmp_path / "features")
    assert path.stat().st_mtime_ns == written
    assert first.ids == second.ids
    assert len(first) == COUNT
    torch.testing.assert_close(first.sketches, second.sketches)
    assert first.of(["unseen_composition"]) == list(range(COUNT - 4, COUNT))
    assert first.of(["seen"], min_accuracy=0.5) == list(range(COUNT // 2, COUNT - 4))


def test_joined_corpora_keep_each_others_modules(zoo: Path, tmp_path: Path) -> None:
    with Zoo.open(zoo, read_only=True) as opened:
        one = corpus_of(opened, CorpusConfig(sketch=4), tmp_path)
    two = Corpus.join([one, one])
    assert len(two) == 2 * COUNT
    assert two.ids == one.ids * 2
    rows, again = modules_of(one, 3), modules_of(two, COUNT + 3)
    torch.testing.assert_close(two.sketches[again], one.sketches[rows])


def test_parts_keep_adapters_of_one_recipe_together(zoo: Path, tmp_path: Path) -> None:
    with Zoo.open(zoo, read_only=True) as opened:
        corpus = corpus_of(opened, CorpusConfig(sketch=4), tmp_path)
    facts = [{"rank": 2, "recipe": {"lr": i % 8}} for i in range(COUNT)]
    parts = parts_of(replace(corpus, facts=tuple(map(json.dumps, facts))), share=0.3)
    assert set(parts) == {"train", "calibration", "test"}
    assert all(parts[i] == parts[i % 8] for i in range(COUNT))
    assert "test" not in parts_of(corpus)


def test_damaged_corpus_is_named(tmp_path: Path) -> None:
    (tmp_path / "features.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigError, match="is not a corpus of features"):
        Corpus.load(tmp_path / "features.safetensors")


def test_texts_are_read_once_by_task(zoo: Path, tmp_path: Path) -> None:
    texts = {"a": ("one two", "three"), "b": ("four five six",)}
    bank = text_bank(texts, tmp_path, encoder="bag")
    again = text_bank(texts, tmp_path, encoder="bag")
    states, mask = again.padded(again.rows["b"] + again.rows["a"])
    assert mask.sum(1).tolist() == [3, 2, 1]
    torch.testing.assert_close(states[1, :2], text_vectors(["one", "two"]))
    assert bank.pooled([0], 2).shape == (1, 3 * 64)
    (tmp_path / "bad.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigError, match="is not a bank of texts"):
        TextBank.load(tmp_path / "bad.safetensors")


def test_validation_tasks_stay_out_of_training(zoo: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.json"
    held.write_text(json.dumps(["t3", "t4"]))
    found = recipe(zoo)
    config = replace(found.task, validation_tasks=str(held))
    task = EncoderTask(config, TaskContext(seed=0, batch_size=8, device=torch.device("cpu")))
    assert {task.corpus.tasks[i] for i in task.validation} <= {"t3", "t4"}
    assert not {task.corpus.tasks[i] for i in task.train} & {"t3", "t4"}
    assert 0 <= task.evaluate(task.model, 0)["top1_validation"] <= 1
    held.write_text("no list")
    with pytest.raises(ConfigError, match="is not a JSON list of tasks"):
        EncoderTask(config, TaskContext(seed=0, batch_size=8, device=torch.device("cpu")))


def test_anchor_frames_fit_every_module_of_the_base(zoo: Path) -> None:
    config = recipe(zoo).task
    own = replace(config, base="tiny_lm", corpus=replace(config.corpus, directions="anchors"))
    frames = load_encoder_data(own, 0).frames
    assert frames is not None
    name, found = frames.of("model.layers.0.self_attn.q_proj", "in", 128)
    assert name.endswith("q_proj/in")
    assert found.shape == (128, own.corpus.sketch)


def test_augmented_copies_teach_vectors_and_nothing_else(zoo: Path) -> None:
    config = recipe(zoo).task
    plain, more = (
        EncoderTask(made, TaskContext(seed=0, batch_size=8, device=torch.device("cpu")))
        for made in (config, replace(config, augment=AugmentConfig(noise=0.3, drop=0.2)))
    )
    assert len(more.train) == 2 * len(plain.train)
    assert len(more.validation) == len(plain.validation)
    assert len(quality_rows(more).entries) == len(quality_rows(plain).entries)
    assert more.parents() == plain.parents()


def test_batches_repeat_and_unseen_splits_stay_out(zoo: Path) -> None:
    context = TaskContext(seed=0, batch_size=8, device=torch.device("cpu"))
    task = EncoderTask(recipe(zoo).task, context)
    parts = {i: task.data.parts[i] for i in task.train}
    assert set(parts.values()) == {"train"}
    assert {task.corpus.splits[i] for i in task.train} == {"seen"}
    first, second = task.batch(3), task.batch(3)
    assert first["positive"].sum(1).tolist() == [2] * 8
    torch.testing.assert_close(first["states"], second["states"])
    torch.testing.assert_close(first["modules"].content, second["modules"].content)


def test_batch_larger_than_the_zoo_is_refused(zoo: Path) -> None:
    with pytest.raises(ConfigError, match="adapters to learn from, but a batch has 64"):
        train(recipe(zoo, batch_size=64))


def test_contrastive_loss_is_that_of_hand_made_numbers() -> None:
    adapters, texts = torch.eye(2), torch.eye(2)[[0, 0, 1]]
    positive = torch.tensor([[True, True, False], [False, False, True]])
    found = contrastive_loss(adapters, texts, positive, torch.tensor(0.0))
    e = torch.e
    to_text = (torch.log(torch.tensor(2 * e + 1)) - 1 + torch.log(torch.tensor(e + 2)) - 1) / 2
    to_adapter = torch.log(torch.tensor(e + 1)) - 1
    torch.testing.assert_close(found, (to_text + to_adapter) / 2)


def test_text_without_an_adapter_is_only_a_negative() -> None:
    adapters, texts = torch.eye(2), torch.cat([torch.eye(2), torch.eye(2)[:1]])
    positive = torch.tensor([[True, False, False], [False, True, False]])
    with_it = contrastive_loss(adapters, texts, positive, torch.tensor(0.0))
    without = contrastive_loss(adapters, texts[:2], positive[:, :2], torch.tensor(0.0))
    assert float(with_it) > float(without)


def test_reversed_gradient_pulls_the_other_way() -> None:
    x = torch.ones(2, requires_grad=True)
    ReversedGradient.apply(x, 0.5).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-0.5, -0.5]


def test_constant_encoder_finds_nothing() -> None:
    own = torch.eye(3).bool()
    many = torch.eye(5).bool()
    assert retrieval_ranks(torch.ones(5, 3), torch.ones(5, 3), many).tolist() == [4] * 5
    assert retrieval_ranks(torch.eye(3), torch.eye(3), own).tolist() == [0] * 3
