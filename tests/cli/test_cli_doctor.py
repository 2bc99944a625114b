import json
from pathlib import Path

import pytest
from cli_factories import lora_gen, tiny_adapter, tiny_base

from lora_gen.adapter.io import save_adapter


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_adapter(tiny_adapter(tiny_base(tmp_path / "base")), tmp_path / "adapter")


def test_doctor_finds_a_written_adapter_healthy(adapter: Path, tmp_path: Path) -> None:
    result = lora_gen("doctor", adapter, "--base", tmp_path / "base")
    assert result.exit_code == 0, result.output
    assert "fits the base: yes" in result.stdout
    assert "vLLM" in result.stdout
    assert result.stdout.rstrip().endswith("Healthy.")


def test_doctor_says_what_is_broken_and_exits_with_1(adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    result = lora_gen("doctor", adapter, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert "cut short" in report["errors"][0]


def test_doctor_says_when_the_base_does_not_fit(adapter: Path, tmp_path: Path) -> None:
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["hidden_size"] = 16
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    result = lora_gen("doctor", adapter, "--base", tmp_path / "base")
    assert result.exit_code == 1
    assert "fits the base: no" in result.stdout


def test_doctor_refuses_an_unknown_base(adapter: Path, tmp_path: Path) -> None:
    result = lora_gen("doctor", adapter, "--base", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: `")
