"""The generator of lenses that ships: what it makes follows criteria that it never met."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.adapter.minilm import MINILM
from lora_gen.assets import default_generator
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_measures import mean_average_precision
from lora_gen.evaluation.lens_reader import LensReader
from lora_gen.evaluation.lenses import LensTask
from lora_gen.pipeline import LoraGenPipeline
from recipes.minilm_lenses.tasks import task_of


@pytest.fixture(scope="module")
def pipe() -> LoraGenPipeline:
    return LoraGenPipeline.from_pretrained(default_generator(MINILM))


@pytest.fixture(scope="module")
def reader() -> LensReader:
    return LensReader(Embedder.from_pretrained())


def lens_of(pipe: LoraGenPipeline, text: str) -> Adapter:
    made = pipe(text, generator=torch.Generator().manual_seed(0))
    return made.adapters[0]


def precision(reader: LensReader, task: LensTask, lens: Adapter | None) -> float:
    vectors = reader.embed(task.texts, lens)
    return mean_average_precision(vectors, task.values, sources=task.sources)


@pytest.mark.parametrize("key", ["vehicle.medium", "kind.origin", "feeling.emotion"])
def test_an_unseen_criterion_is_followed_when_its_values_are_named(
    pipe: LoraGenPipeline, reader: LensReader, key: str
) -> None:
    task = task_of(key)
    gain = precision(reader, task, lens_of(pipe, task.named)) - precision(reader, task, None)
    assert gain > 0.08


def test_words_of_another_criterion_do_not_help(pipe: LoraGenPipeline, reader: LensReader) -> None:
    task = task_of("vehicle.medium")
    other = lens_of(pipe, "by how polite the message is")
    assert precision(reader, task, other) - precision(reader, task, None) < 0.05


def test_the_folder_embeds_alike_in_peft_and_sentence_transformers(
    pipe: LoraGenPipeline, tmp_path: Path
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    from lora_gen.adapter.base_model import resolve_base

    texts = ["The server is down, hurry!", "Whenever you have time, rename it.", "ok"]
    folder = save_adapter(lens_of(pipe, "by how urgent the message is"), tmp_path / "urgent")
    own = Embedder.from_pretrained().embed(texts, load_adapter(folder))
    place = str(resolve_base(MINILM))
    model = sentence_transformers.SentenceTransformer(place, device="cpu")
    model.load_adapter(str(folder))
    torch.testing.assert_close(own, torch.tensor(model.encode(texts)), atol=1e-5, rtol=0)
    tuned = PeftModel.from_pretrained(AutoModel.from_pretrained(place), str(folder)).eval()
    batch = AutoTokenizer.from_pretrained(place)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = tuned(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    found = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    torch.testing.assert_close(own, found, atol=1e-5, rtol=0)
