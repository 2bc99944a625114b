import json
from pathlib import Path

import pytest
from cli_factories import fake_models, lora_gen, tiny_adapter, tiny_base

from lora_gen.adapter.io import save_adapter


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake_models(monkeypatch)
    base = tiny_base(tmp_path / "base")
    return save_adapter(tiny_adapter(base), tmp_path / "adapter")


def test_apply_json_is_the_list_of_answers(adapter: Path) -> None:
    result = lora_gen("apply", adapter, "ab", "-5", "--json")
    assert result.exit_code == 2, "an input with a dash needs `--`"
    result = lora_gen("apply", adapter, "--json", "--", "ab", "-5")
    assert json.loads(result.stdout) == [
        {"input": "ab", "output": "AB", "base_output": "ab?"},
        {"input": "-5", "output": "-5", "base_output": "-5?"},
    ]


def test_apply_shows_a_table(adapter: Path) -> None:
    result = lora_gen("apply", adapter, "ab")
    assert result.exit_code == 0, result.output
    for shown in ("input", "base + adapter", "ab?", "AB"):
        assert shown in result.stdout


def test_apply_shows_control_characters_as_escapes(adapter: Path) -> None:
    result = lora_gen("apply", adapter, "a\x1b[2Jb\nc")
    assert "\x1b" not in result.stdout
    assert "a\\x1b[2Jb\\nc?" in result.stdout


def test_apply_reads_no_markup_in_answers(adapter: Path) -> None:
    assert "[red]x[/red]?" in lora_gen("apply", adapter, "[red]x[/red]").stdout


def test_apply_needs_a_base_when_the_adapter_names_none(adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    result = lora_gen("apply", adapter, "ab")
    assert result.exit_code == 2
    assert "does not name its base. Pass it with `--base`." in result.stderr


def test_apply_refuses_when_the_adapter_is_missing(tmp_path: Path) -> None:
    result = lora_gen("apply", tmp_path / "none", "ab")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: `")
    assert "does not exist" in result.stderr
