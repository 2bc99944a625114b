from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from adapter_factories import random_adapter, random_pair
from diffusers_factories import (
    Q_PROJ,
    TO_Q,
    loaded_pipeline,
    merged_noise,
    pipeline_spec,
    predicted_noise,
    raw_file,
    tiny_pipeline,
    unet_tensors,
)

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import ModuleShape
from lora_gen.adapter.factors import require_same
from lora_gen.adapter.io import load_adapter, recognize
from lora_gen.adapter.kohya_format import read_kohya, write_kohya
from lora_gen.adapter.kohya_names import key_of, names_of, original_paths
from lora_gen.errors import (
    AdapterConfigError,
    AdapterFormatError,
    AdapterMismatchError,
    AdapterValueError,
    OutputPathError,
)

FILE = "x.safetensors"
KEY = "lora_unet_" + TO_Q.replace(".", "_")
DOWN, UP = ".lora_down.weight", ".lora_up.weight"


def unet_paths():
    modules = pipeline_spec().modules
    return [name.removeprefix("unet.") for name in modules if name.startswith("unet.")]


def read(tmp_path, tensors):
    return read_kohya(raw_file(tmp_path / FILE, tensors), pipeline_spec())


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("target", ["attention", None], ids=["attention", "every module"])
def test_diffusers_predicts_the_merged_noise(tmp_path, target, exact):
    target = target or list(pipeline_spec().modules)
    adapter = random_adapter(pipeline_spec(), target=target, rank=3, scaling=0.7)
    write_kohya(adapter, tmp_path / FILE, base=pipeline_spec(), exact=exact)
    noise = predicted_noise(loaded_pipeline(tmp_path, FILE))
    torch.testing.assert_close(noise, merged_noise(adapter), rtol=0, atol=1e-5)
    assert (noise - predicted_noise(tiny_pipeline())).abs().max() > 1e-3


def test_exact_write_then_load_is_identity(tmp_path):
    spec = pipeline_spec()
    adapter = random_adapter(spec, target=list(spec.modules), rank=3, scaling=0.7)
    write_kohya(adapter, tmp_path / FILE, exact=True)
    assert recognize(tmp_path / FILE) == ("kohya", tmp_path / FILE)
    require_same(load_adapter(tmp_path / FILE, base=spec), adapter)


def original_file(tmp_path, adapter):
    """The adapter's UNet as SDXL trainers name it."""
    originals = original_paths(unet_paths())
    tensors = {}
    for name, pair in adapter.pairs.items():
        key = "lora_unet_" + originals[name.removeprefix("unet.")].replace(".", "_")
        tensors |= {key + DOWN: pair.lora_a, key + UP: pair.lora_b}
        tensors[f"{key}.alpha"] = torch.tensor(pair.scaling * pair.rank)
    return raw_file(tmp_path / FILE, tensors)


def test_original_names_mean_what_diffusers_takes_them_for(tmp_path):
    target = [f"unet.{name}" for name in unet_paths()]
    adapter = random_adapter(pipeline_spec(), target=target, scaling=0.5)
    path = original_file(tmp_path, adapter)
    require_same(load_adapter(path, base=pipeline_spec()), adapter)
    config = tiny_pipeline().unet.config
    noise = predicted_noise(loaded_pipeline(tmp_path, FILE, unet_config=config))
    torch.testing.assert_close(noise, merged_noise(adapter), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("path", "original"),
    [
        ("conv_in", "input_blocks.0.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("down_blocks.0.resnets.1.time_emb_proj", "input_blocks.2.0.emb_layers.1"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("down_blocks.1.resnets.0.conv_shortcut", "input_blocks.4.0.skip_connection"),
        ("down_blocks.1.attentions.1.proj_in", "input_blocks.5.1.proj_in"),
        ("mid_block.attentions.0.proj_out", "middle_block.1.proj_out"),
        ("mid_block.resnets.1.conv1", "middle_block.2.in_layers.2"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
        ("up_blocks.1.resnets.2.conv2", "output_blocks.5.0.out_layers.3"),
        ("conv_out", "out.2"),
    ],
)
def test_original_path_counts_blocks_over_the_model(path, original):
    paths = original_paths(unet_paths())
    assert paths[path] == original
    assert set(paths) == set(unet_paths())


def test_upsampler_of_a_block_without_attention_comes_second():
    paths = original_paths(["up_blocks.0.resnets.0.conv1", "up_blocks.0.upsamplers.0.conv"])
    assert paths["up_blocks.0.upsamplers.0.conv"] == "output_blocks.0.1.conv"


def test_no_key_of_a_pipeline_is_ambiguous():
    assert all(len(modules) == 1 for modules in names_of(pipeline_spec().modules).values())


@pytest.mark.parametrize(
    ("module", "two_encoders", "key"),
    [
        (f"unet.{TO_Q}", True, KEY),
        (f"text_encoder.{Q_PROJ}", False, "lora_te_text_model_encoder_layers_0_self_attn_q_proj"),
        (f"text_encoder.{Q_PROJ}", True, "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"),
        ("text_encoder_2.text_projection", True, "lora_te2_text_projection"),
        ("transformer.x_embedder", False, None),
    ],
)
def test_key_is_the_trainers_own(module, two_encoders, key):
    assert key_of(module, two_encoders) == key


@pytest.mark.parametrize("prefix", ["lora_te_text_model_", "lora_te1_text_model_", "lora_te_"])
def test_text_encoder_keys_are_resolved(tmp_path, prefix):
    tensors = unet_tensors(DOWN, UP, prefix + Q_PROJ.replace(".", "_"))
    assert list(read(tmp_path, tensors).pairs) == [f"text_encoder.{Q_PROJ}"]


def test_alpha_gives_the_scaling(tmp_path):
    tensors = {**unet_tensors(DOWN, UP, KEY), f"{KEY}.alpha": torch.tensor(1.0)}
    pair = read(tmp_path, tensors).pairs[f"unet.{TO_Q}"]
    assert pair.scaling == 0.5
    assert torch.equal(pair.lora_b, tensors[KEY + UP])


def test_scaling_is_one_without_alpha(tmp_path):
    adapter = read(tmp_path, unet_tensors(DOWN, UP, KEY))
    assert adapter.pairs[f"unet.{TO_Q}"].scaling == 1.0
    assert adapter.base == "acme/tiny-sd"


def test_pointwise_conv_fits_a_linear_module_and_back(tmp_path):
    spec = pipeline_spec()
    tensors = {name: t[:, :, None, None] for name, t in unet_tensors(DOWN, UP, KEY).items()}
    pair = read(tmp_path, tensors).pairs[f"unet.{TO_Q}"]
    assert pair.lora_a.shape == (2, 16)
    conv = ModuleShape(type="conv2d", out_features=16, in_features=16, kernel=(1, 1))
    spec = replace(spec, modules={**spec.modules, f"unet.{TO_Q}": conv})
    path = raw_file(tmp_path / FILE, unet_tensors(DOWN, UP, KEY))
    assert read_kohya(path, spec).pairs[f"unet.{TO_Q}"].lora_a.shape == (2, 16, 1, 1)


def test_read_without_base_is_refused(tmp_path):
    path = raw_file(tmp_path / FILE, unet_tensors(DOWN, UP, KEY))
    with pytest.raises(AdapterMismatchError, match="which only the base's own module paths can"):
        load_adapter(path)


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        (f"{KEY}.dora_scale", "is DoRA's magnitude"),
        (f"{KEY}.hada_w1_a", "is a LoHa factor"),
        (f"{KEY}.lokr_w1", "is a LoKr factor"),
        (f"{KEY}.lora_mid.weight", "is a Tucker core of LyCORIS"),
        (f"{KEY}.oft_blocks", "is an OFT rotation"),
        (f"{KEY}.diff_b", "is a bias"),
    ],
)
def test_beyond_lora_is_refused_by_name(tmp_path, key, advice):
    path = raw_file(tmp_path / FILE, {**unet_tensors(DOWN, UP, KEY), key: torch.ones(2)})
    with pytest.raises(AdapterConfigError, match=f"{advice}.*Supported is plain LoRA only"):
        load_adapter(path, base=pipeline_spec())


@pytest.mark.parametrize("key", [f"{KEY}.weight", "lycoris_mid_block.lora_down.weight"])
def test_unexpected_key_is_refused(tmp_path, key):
    with pytest.raises(AdapterFormatError, match=r"is no LoRA factor of kohya\. Supported are"):
        read(tmp_path, {**unet_tensors(DOWN, UP, KEY), key: torch.ones(2)})


def test_name_of_another_base_is_refused(tmp_path):
    tensors = unet_tensors(DOWN, UP, "lora_unet_double_blocks_0_img_attn_qkv")
    with pytest.raises(AdapterMismatchError, match="is no module of the base `acme/tiny-sd`"):
        read(tmp_path, tensors)


def test_ambiguous_name_is_refused(tmp_path):
    spec = pipeline_spec()
    shape = spec.modules[f"unet.{TO_Q}"]
    twin = replace(spec, modules={"unet.a.b_c": shape, "unet.a_b.c": shape})
    path = raw_file(tmp_path / FILE, unet_tensors(DOWN, UP, "lora_unet_a_b_c"))
    with pytest.raises(AdapterMismatchError, match="`lora_unet_a_b_c` means 2 modules of the base"):
        read_kohya(path, twin)


@pytest.mark.parametrize(("dropped", "missing"), [(DOWN, "A"), (UP, "B")])
def test_missing_factor_is_refused(tmp_path, dropped, missing):
    tensors = {**unet_tensors(DOWN, UP, KEY), f"{KEY}.alpha": torch.tensor(1.0)}
    del tensors[KEY + dropped]
    with pytest.raises(AdapterMismatchError, match=f"to_q` has .* but no `{missing}`"):
        read(tmp_path, tensors)


def test_non_finite_value_is_refused_by_tensor_name(tmp_path):
    tensors = unet_tensors(DOWN, UP, KEY)
    tensors[KEY + DOWN][0, 0] = torch.nan
    with pytest.raises(AdapterValueError, match=r"to_q.lora_A` has 1 values of 32 that are NaN"):
        read(tmp_path, tensors)


def test_shape_of_another_base_is_refused(tmp_path):
    tensors = unet_tensors(DOWN, UP, KEY)
    tensors[KEY + UP] = torch.ones(12, 2)
    with pytest.raises(
        AdapterMismatchError, match=r"has lora_A \(2, 16\) and lora_B \(12, 2\), but"
    ):
        read(tmp_path, tensors)


@pytest.mark.parametrize("module", ["transformer.x", "x.y"])
def test_write_refuses_modules_without_kohya_name(tmp_path, module):
    adapter = Adapter(pairs={module: random_pair(3, 4)}, base="acme/tiny")
    with pytest.raises(AdapterMismatchError, match=r"has no kohya name: .* Write a Diffusers"):
        write_kohya(adapter, tmp_path / FILE)


def test_write_refuses_names_that_collide(tmp_path):
    pairs = {"unet.a.b_c": random_pair(3, 4), "unet.a_b.c": random_pair(3, 4)}
    with pytest.raises(AdapterMismatchError, match="`lora_unet_a_b_c` means 2 modules"):
        write_kohya(Adapter(pairs=pairs, base="acme/tiny"), tmp_path / FILE)
    assert os.listdir(tmp_path) == []


def test_write_replaces_only_when_allowed(tmp_path):
    adapter = random_adapter(pipeline_spec(), target=["to_q"])
    write_kohya(adapter, tmp_path / FILE)
    with pytest.raises(OutputPathError, match="exists already"):
        write_kohya(adapter, tmp_path / FILE)
    write_kohya(adapter, tmp_path / FILE, overwrite=True)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("x.ckpt", "must end in `.safetensors`"), ("d.safetensors", "no regular")],
)
def test_write_refuses_other_outputs(tmp_path, name, sentence):
    (tmp_path / "d.safetensors").mkdir()
    adapter = random_adapter(pipeline_spec(), target=["to_q"])
    with pytest.raises(OutputPathError, match=sentence):
        write_kohya(adapter, tmp_path / name, overwrite=True)
