"""`lora-gen generate` for a base of real size: the config alone, streamed, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_factories import lora_gen
from generator_factories import tiny_denoiser
from real_bases import BASES

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.io import load_adapter
from lora_gen.pipeline import LoraGenPipeline

BASE = BASES / "qwen2.5-0.5b"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("generator")
    LoraGenPipeline.build(tiny_denoiser(trained_bases=("tiny_lm",))).save_pretrained(folder)
    (folder / "in.txt").write_text("one\ntwo\n")
    sizes = ["--rank", 16, "--target", "q_proj,k_proj,v_proj,o_proj,up_proj", "--steps", 1]
    return [*("--generator", folder, "--prompts", folder / "in.txt", "--base", BASE), *sizes]


def test_untrained_base_of_real_size_is_refused_with_a_way_on(
    asked: list[Any], tmp_path: Path
) -> None:
    result = lora_gen("generate", *asked, "--out", tmp_path / "out")
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "This generator was trained for tiny_lm, not for" in said
    assert "`--allow-untrained`" in said
    assert not (tmp_path / "out").exists()


def test_adapter_of_real_size_is_streamed_into_a_folder_that_loads(
    asked: list[Any], tmp_path: Path
) -> None:
    result = lora_gen("generate", *asked, "--allow-untrained", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    spec = BaseModelSpec.from_config(BASE)
    adapter = load_adapter(tmp_path / "out", base=spec)
    assert (len(adapter.pairs), adapter.max_rank) == (5 * spec.num_layers, 16)
    assert report["provenance"]["mixed_precision"] is True
    assert json.loads((tmp_path / "out" / "lora_gen.json").read_text()) == report["provenance"]
