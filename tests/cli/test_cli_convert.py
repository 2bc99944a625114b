import json
from pathlib import Path

import pytest
import torch
from cli_factories import lora_gen, tiny_adapter, tiny_base
from picture_factories import picture_base, random_picture_adapters

from lora_gen.adapter.algebra import cosine, norm
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.io import load_adapter, save_adapter


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base")


def test_convert_keeps_the_delta_weight(base: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(base)
    save_adapter(adapter, tmp_path / "exact", exact=True)
    result = lora_gen("convert", tmp_path / "exact", tmp_path / "portable", "--json")
    assert json.loads(result.stdout)["format"] == "peft"
    portable = load_adapter(tmp_path / "portable")
    assert portable.max_rank == 8
    assert cosine(portable, adapter) == pytest.approx(1)
    assert norm(portable) == pytest.approx(norm(adapter))


def test_convert_keeps_the_factors_when_exact(base: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(base)
    save_adapter(adapter, tmp_path / "one", exact=True)
    lora_gen("convert", tmp_path / "one", tmp_path / "two", "--exact")
    for name, pair in load_adapter(tmp_path / "two").pairs.items():
        assert torch.equal(pair.lora_a, adapter.pairs[name].lora_a)


def test_convert_refuses_when_the_output_exists(base: Path, tmp_path: Path) -> None:
    save_adapter(tiny_adapter(base), tmp_path / "one")
    result = lora_gen("convert", tmp_path / "one", tmp_path / "one")
    assert result.exit_code == 2
    assert "already exists. Pass `--overwrite`" in result.stderr


def test_convert_writes_a_kohya_file_and_reads_it_back(tmp_path: Path) -> None:
    adapter, base = random_picture_adapters(1)[0], picture_base()
    save_adapter(adapter, tmp_path / "style", format="diffusers", exact=True)
    options = ("--to", "kohya", "--base", base, "--exact")
    file = tmp_path / "style.safetensors"
    assert lora_gen("convert", tmp_path / "style", file, *options).exit_code == 0
    back = load_adapter(file, base=BaseModelSpec.from_config(base))
    assert cosine(back, adapter) == pytest.approx(1)
    assert norm(back) == pytest.approx(norm(adapter))
    refused = lora_gen("convert", tmp_path / "style", file, *options)
    assert "exists already" in refused.stderr
