"""`lora-gen embed` on the real embedding model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_factories import lora_gen

from lora_gen.adapter.io import save_adapter
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import initial_factors, lens_adapter

LINES = ("the server is on fire", "tea at four?", "the cat sleeps")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.from_pretrained()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("\n\n".join(LINES), encoding="utf-8")
    return path


@pytest.fixture
def lens(tmp_path: Path, embedder: Embedder) -> Path:
    factors = initial_factors(embedder.spec, [0], 2)
    filled = {name: (a, torch.full_like(b, 0.02)) for name, (a, b) in factors.items()}
    return save_adapter(lens_adapter(filled, 0, embedder.spec), tmp_path / "lens", exact=True)


def test_embed_writes_one_unit_vector_a_line(file: Path, embedder: Embedder) -> None:
    out = file.with_suffix(".npy")
    result = lora_gen("embed", file, "--out", out)
    assert result.exit_code == 0, result.output
    assert "3 vectors of width 384" in result.stdout
    np.testing.assert_allclose(np.load(out), embedder.embed(LINES).numpy(), atol=1e-5)


def test_embed_searches_with_the_lens_beside_the_base(file: Path, lens: Path) -> None:
    arguments = ("embed", file, "--query", "a pet", "--top", 2, "--json")
    plain = json.loads(lora_gen(*arguments).stdout)["nearest"]
    assert plain[0]["text"] == "the cat sleeps"
    assert len(plain) == 2
    both = json.loads(lora_gen(*arguments, "--adapter", lens).stdout)["nearest"]
    assert [row["base_text"] for row in both] == [row["text"] for row in plain]
    assert both[0]["cosine"] != plain[0]["cosine"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Nothing to do: pass `--out` for vectors, or `--query` to search."),
        (("--out", "vectors.txt"), "`vectors.txt` must be a .npy file"),
        (("--query", "x", "--base", "no/such-base"), "`no/such-base` is not a local folder"),
    ],
)
def test_embed_refuses_in_one_sentence(file: Path, arguments: tuple[str, ...], sentence) -> None:
    result = lora_gen("embed", file, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\xff"])
def test_embed_refuses_a_file_without_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    result = lora_gen("embed", tmp_path / "bad.txt", "--query", "x")
    assert result.exit_code == 2
    assert "no line of text" in result.stderr or "cannot be read as UTF-8" in result.stderr
