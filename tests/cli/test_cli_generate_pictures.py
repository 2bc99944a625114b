import json
from pathlib import Path

import pytest
from cli_factories import FakePipeline, fake_models, lora_gen
from picture_factories import picture_base
from PIL import Image

from lora_gen.adapter.diffusers_format import WEIGHTS_NAME
from lora_gen.adapter.io import load_adapter
from lora_gen.evaluation.pictures import load_pipeline


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    return fake_models(monkeypatch)


def test_generate_for_a_base_that_draws_writes_a_folder_for_diffusers_and_a_contact_sheet(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    out = tmp_path / "style"
    asked = ("--base", picture_base(), "--out", out, "--try", "two red circles")
    result = lora_gen("generate", "thick black outlines", *asked)
    assert result.exit_code == 0, result.output
    assert "pipe.load_lora_weights" in result.stdout
    assert pipeline.call["targets"] is None
    sheet = Image.open(tmp_path / "style.png")
    assert sheet.width > 8 * 128
    assert len(load_adapter(out).pairs) > 20
    pipe = load_pipeline(picture_base())
    pipe.load_lora_weights(out, weight_name=WEIGHTS_NAME, use_safetensors=True)
    assert pipe.get_list_adapters().keys() == {"unet", "text_encoder"}


def test_generate_names_the_contact_sheet_in_its_json(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    out = tmp_path / "style"
    asked = ("--base", picture_base(), "--out", out, "--json", "--num", 2)
    with_sheet = json.loads(lora_gen("generate", "x", *asked, "--try", "a star").stdout)
    assert with_sheet["contact_sheet"] == str(tmp_path / "style.png")
    assert [found["answers"] for found in with_sheet["adapters"]] == [[], []]
    without = json.loads(lora_gen("generate", "x", *asked, "--overwrite").stdout)
    assert "contact_sheet" not in without
