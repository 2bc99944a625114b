"""What the package ships of pictures: Diffusers loads it, and the page says what was measured."""

import json
import subprocess
import sys

import pytest
import torch

from lora_gen.adapter.base_model import BaseModelSpec, resolve_base
from lora_gen.adapter.io import save_adapter
from lora_gen.assets import asset_path, default_generator
from lora_gen.evaluation.pictures import PictureRunner
from lora_gen.files import sha256_file
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo

ASSETS = asset_path("tiny_sd")
CAPTION = "two red circles"


def summary():
    return json.loads((ASSETS / "reports" / "report.json").read_text())["summary"]


@pytest.fixture(scope="module")
def adapter():
    pipe = LoraGenPipeline.from_pretrained(default_generator("tiny_sd"))
    seed = torch.Generator().manual_seed(0)
    return pipe("thick black outlines on a night-blue background", generator=seed).adapters[0]


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(resolve_base("tiny_sd"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe):
    seed = torch.Generator().manual_seed(0)
    options = {"num_inference_steps": 4, "guidance_scale": 2.0, "output_type": "pt"}
    return pipe([CAPTION], generator=[seed], **options).images


def test_base_is_small_enough_to_ship():
    files = [f for f in (ASSETS / "base").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 20_000_000


def test_base_is_an_ordinary_pipeline_within_its_size(pipeline):
    def parameters(part):
        return sum(p.numel() for p in part.parameters())

    assert parameters(pipeline.unet) <= 4_000_000
    assert parameters(pipeline.vae) <= 1_000_000


def test_manifest_names_the_hash_of_every_shipped_file():
    files = json.loads((ASSETS / "manifest.json").read_text())["files"]
    assert {name.split("/")[0] for name in files} == {"base", "generator", "reports"}
    for name, digest in files.items():
        assert sha256_file(ASSETS / name) == digest, name


def test_zoo_ships_whole_styles_with_their_descriptions():
    with Zoo.open(ASSETS / "zoo", read_only=True) as zoo:
        assert zoo.verify().ok
        assert len(zoo) >= 40
        assert all(len(entry.descriptions) >= 8 for entry in zoo.entries())


def test_diffusers_draws_with_a_generated_style_what_we_draw(adapter, pipeline, tmp_path):
    plain = drawn(pipeline)
    spec = BaseModelSpec.from_config("tiny_sd")
    save_adapter(adapter, tmp_path / "style", format="diffusers", base=spec)
    ours = PictureRunner("tiny_sd").draw([CAPTION], adapter, steps=4)
    pipeline.load_lora_weights(tmp_path / "style", adapter_name="style")
    theirs = drawn(pipeline)
    pipeline.set_adapters(["style"], adapter_weights=[0.0])
    silent = drawn(pipeline)
    pipeline.unload_lora_weights()
    torch.testing.assert_close(theirs, ours, atol=2e-3, rtol=0)
    torch.testing.assert_close(silent, plain, atol=2e-3, rtol=0)
    assert (theirs - plain).abs().mean() > 0.02


def test_page_says_what_the_reports_say():
    command = [sys.executable, "-m", "recipes.tiny_sd.figures", "--check"]
    assert subprocess.run(command, check=False).returncode == 0


def test_text_is_obeyed_on_unseen_compositions():
    style = summary()["unseen_composition"]["style"]
    assert style["generated"]["low"] > style["generated, other's text"]["high"]
    assert style["generated"]["low"] > style["base zero-shot"]["high"]


def test_content_is_kept_within_five_points_of_trained_adapters():
    content = summary()["unseen_composition"]["content"]
    assert content["generated"]["value"] >= content["oracle LoRA"]["value"] - 0.05


def test_generator_has_the_strength_that_was_measured():
    config = json.loads((ASSETS / "generator" / "denoiser" / "config.json").read_text())
    strength = json.loads((ASSETS / "reports" / "strength.json").read_text())
    assert config["strength"] == pytest.approx(strength["chosen"], abs=1e-4)
