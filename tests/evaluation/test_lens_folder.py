"""A generated lens, from the pipeline to a folder that sentence-transformers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import SIZES

from lora_gen.adapter.base_model import BaseModelSpec, resolve_base
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.adapter.minilm import MINILM, MINILM_ID
from lora_gen.evaluation.embedding import Embedder, lens_targets
from lora_gen.models.recurrent_denoiser import RecurrentDenoiser
from lora_gen.pipeline import LoraGenPipeline

TEXTS = ["The server is down, hurry!", "Whenever you have time, rename the folder.", "ok"]


@pytest.fixture(scope="module")
def made() -> Any:
    """What a small random generator makes of a description."""
    spec = BaseModelSpec.from_config(MINILM)
    torch.manual_seed(0)
    denoiser = RecurrentDenoiser(
        token_width=spec.hidden_size,
        text_dim=spec.hidden_size,
        trained_bases=(MINILM,),
        targets=lens_targets(spec),
        **SIZES,
    )
    pipe = LoraGenPipeline.build(denoiser)
    return pipe("by how urgent the message is", generator=torch.Generator().manual_seed(0))


def test_a_generated_lens_is_for_the_real_base(made: Any) -> None:
    (lens,) = made.adapters
    assert lens.base == MINILM_ID
    assert {name.split(".")[2] for name in lens.pairs} == {"4", "5"}
    assert made.provenance[0]["base"] == MINILM_ID


def test_its_folder_embeds_alike_in_sentence_transformers(made: Any, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = save_adapter(made.adapters[0], tmp_path / "urgent")
    own = Embedder.from_pretrained().embed(TEXTS, load_adapter(folder))
    model = sentence_transformers.SentenceTransformer(str(resolve_base(MINILM)), device="cpu")
    before = torch.tensor(model.encode(TEXTS))
    model.load_adapter(str(folder))
    after = torch.tensor(model.encode(TEXTS))
    torch.testing.assert_close(own, after, atol=1e-5, rtol=0)
    assert float((after - before).norm()) > 1e-3
