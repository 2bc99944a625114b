from __future__ import annotations

import json
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
from lora_gen.adapter.diffusers_format import (
    METADATA_FIELDS,
    WEIGHTS_NAME,
    read_diffusers,
    write_diffusers,
)
from lora_gen.adapter.factors import require_same
from lora_gen.adapter.io import load_adapter, recognize
from lora_gen.errors import (
    AdapterConfigError,
    AdapterFormatError,
    AdapterLimitError,
    AdapterMismatchError,
    AdapterValueError,
    OutputPathError,
)
from lora_gen.files import verify_manifest
from lora_gen.safetensors_header import read_safetensors_header

CONV_3X3 = ("conv1", "conv2", "conv_in", "conv_out")
TARGETS = {
    "attention of both": "attention",
    "every module": None,
    "conv 3x3": CONV_3X3,
    "text encoder alone": ["q_proj"],
    "text encoder's mlp alone": ["fc1", "fc2"],
}


def metadata(component="unet", **fields):
    fields = {"r": 2, "lora_alpha": 2, "target_modules": ["to_q"], **fields}
    own = {f"{component}.{name}": value for name, value in fields.items()}
    return {"lora_adapter_metadata": json.dumps(own)}


def read(tmp_path, tensors, header=None, **options):
    return read_diffusers(raw_file(tmp_path / "x.safetensors", tensors, header), **options)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_diffusers_predicts_the_merged_noise(tmp_path, target, exact):
    target = target or list(pipeline_spec().modules)
    adapter = random_adapter(pipeline_spec(), target=target, rank=3, scaling=0.7)
    write_diffusers(adapter, tmp_path / "out", base=pipeline_spec(), exact=exact)
    noise = predicted_noise(loaded_pipeline(tmp_path / "out", WEIGHTS_NAME))
    torch.testing.assert_close(noise, merged_noise(adapter), rtol=0, atol=1e-5)
    assert (noise - predicted_noise(tiny_pipeline())).abs().max() > 1e-3


def test_diffusers_scales_by_the_weight_of_set_adapters(tmp_path):
    adapter = random_adapter(pipeline_spec(), target="attention", scaling=1.0)
    write_diffusers(adapter, tmp_path / "out")
    pipe = loaded_pipeline(tmp_path / "out", WEIGHTS_NAME)
    pipe.set_adapters("own", 0.5)
    half = {name: replace(pair, scaling=0.5) for name, pair in adapter.pairs.items()}
    expected = merged_noise(replace(adapter, pairs=half))
    torch.testing.assert_close(predicted_noise(pipe), expected, rtol=0, atol=1e-5)


def mixed_adapter() -> Adapter:
    """Each module with its own rank and scaling."""
    spec = pipeline_spec()
    parts = [random_adapter(spec, target="attention", rank=r, scaling=r / 4) for r in (1, 2, 3)]
    pairs = {name: parts[i % 3].pairs[name] for i, name in enumerate(parts[0].pairs)}
    return replace(parts[0], pairs=pairs)


def test_diffusers_reads_mixed_ranks_and_alphas_of_an_exact_file(tmp_path):
    adapter = mixed_adapter()
    write_diffusers(adapter, tmp_path / "out", exact=True)
    noise = predicted_noise(loaded_pipeline(tmp_path / "out", WEIGHTS_NAME))
    torch.testing.assert_close(noise, merged_noise(adapter), rtol=0, atol=1e-5)


def test_exact_write_then_load_is_identity(tmp_path):
    adapter = mixed_adapter()
    write_diffusers(adapter, tmp_path / "out", base=pipeline_spec(), exact=True)
    back = load_adapter(tmp_path / "out", base=pipeline_spec())
    require_same(back, adapter)
    assert (back.base, back.base_revision) == ("acme/tiny-sd", "abc")


def test_write_load_write_gives_equal_bytes(tmp_path):
    adapter = random_adapter(pipeline_spec(), target="attention")
    write_diffusers(adapter, tmp_path / "a")
    write_diffusers(load_adapter(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "a" / WEIGHTS_NAME).read_bytes() == (
        tmp_path / "b" / WEIGHTS_NAME
    ).read_bytes()


def test_folder_is_published_with_card_manifest_and_provenance(tmp_path):
    adapter = random_adapter(pipeline_spec(), target=["to_q"])
    write_diffusers(adapter, tmp_path / "out", provenance={"seed": 1})
    listed = verify_manifest(tmp_path / "out")["files"]
    assert sorted(listed) == ["README.md", "lora_gen.json", WEIGHTS_NAME]
    assert 'base_model: "acme/tiny-sd"' in (tmp_path / "out" / "README.md").read_text()
    assert recognize(tmp_path / "out") == ("diffusers", tmp_path / "out" / WEIGHTS_NAME)


def test_metadata_is_the_minimal_set_of_each_component(tmp_path):
    write_diffusers(random_adapter(pipeline_spec(), target="attention"), tmp_path / "out")
    header = read_safetensors_header(tmp_path / "out" / WEIGHTS_NAME).metadata
    parts = [key.split(".") for key in json.loads(header["lora_adapter_metadata"])]
    assert header["format"] == "pt"
    assert {part for part, _ in parts} == {"unet", "text_encoder"}
    assert {name for _, name in parts} == set(METADATA_FIELDS)


def test_portable_file_needs_no_metadata(tmp_path):
    adapter = random_adapter(pipeline_spec(), target="attention", scaling=0.7)
    write_diffusers(adapter, tmp_path / "out")
    pairs = read_diffusers(tmp_path / "out" / WEIGHTS_NAME).pairs.values()
    assert {(pair.rank, pair.scaling) for pair in pairs} == {(8, 1.0)}


def test_what_save_lora_weights_writes_is_read(tmp_path):
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig, get_peft_model_state_dict

    pipe = tiny_pipeline()
    config = LoraConfig(r=2, lora_alpha=3, target_modules=["to_q", "conv1"])
    pipe.unet.add_adapter(replace(config, init_lora_weights=False))
    text = replace(config, target_modules=["q_proj", "fc1"], init_lora_weights=False)
    pipe.text_encoder.add_adapter(text)
    states = [get_peft_model_state_dict(m) for m in (pipe.unet, pipe.text_encoder)]
    layers = [convert_state_dict_to_diffusers(state) for state in states]
    parts = _collate_lora_metadata({"unet": pipe.unet, "text_encoder": pipe.text_encoder})
    pipe.save_lora_weights(tmp_path, *layers, **parts)
    noise = merged_noise(load_adapter(tmp_path, base=pipeline_spec()))
    torch.testing.assert_close(predicted_noise(pipe), noise, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "down", "up", "read_as"),
    [
        (f"unet.{TO_Q}", ".lora_A.weight", ".lora_B.weight", f"unet.{TO_Q}"),
        (f"unet.{TO_Q}", ".lora.down.weight", ".lora.up.weight", f"unet.{TO_Q}"),
        (f"unet.{TO_Q}", "_lora.down.weight", "_lora.up.weight", f"unet.{TO_Q}"),
        ("unet.a.processor.to_out", "_lora.down.weight", "_lora.up.weight", "unet.a.to_out.0"),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.to_q",
            "_lora.down.weight",
            "_lora.up.weight",
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
        ),
        (
            f"text_encoder.{Q_PROJ}",
            ".lora_linear_layer.down.weight",
            ".lora_linear_layer.up.weight",
            f"text_encoder.{Q_PROJ}",
        ),
    ],
)
def test_every_spelling_is_read(tmp_path, module, down, up, read_as):
    tensors = unet_tensors(down, up, module)
    path = raw_file(tmp_path / "x.safetensors", tensors)
    adapter = load_adapter(path)
    assert list(adapter.pairs) == [read_as]
    assert adapter.pairs[read_as].scaling == 1.0
    assert torch.equal(adapter.pairs[read_as].lora_a, tensors[module + down])


def test_old_text_model_prefix_is_resolved_by_the_base(tmp_path):
    tensors = unet_tensors(module=f"text_encoder.text_model.{Q_PROJ}")
    adapter = read(tmp_path, tensors, base=pipeline_spec())
    assert list(adapter.pairs) == [f"text_encoder.{Q_PROJ}"]


def test_alpha_tensor_gives_the_scaling(tmp_path):
    tensors = {**unet_tensors(), f"unet.{TO_Q}.alpha": torch.tensor(3.0)}
    assert read(tmp_path, tensors).pairs[f"unet.{TO_Q}"].scaling == 1.5


def test_metadata_gives_the_scaling(tmp_path):
    header = metadata(alpha_pattern={TO_Q: 6})
    assert read(tmp_path, unet_tensors(), header).pairs[f"unet.{TO_Q}"].scaling == 3.0


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        (f"unet.{TO_Q}.lora_magnitude_vector", "is DoRA's magnitude"),
        (f"unet.{TO_Q}.lora_B.bias", "is a bias"),
        (f"unet.{TO_Q}.hada_w1_a", "is a LoHa factor"),
        (f"unet.{TO_Q}.lokr_w1", "is a LoKr factor"),
        (f"unet.{TO_Q}.diff", "is a full difference of weights"),
    ],
)
def test_beyond_lora_is_refused_by_name(tmp_path, key, advice):
    with pytest.raises(AdapterConfigError, match=f"{advice}.*Supported is plain LoRA only"):
        read(tmp_path, {**unet_tensors(), key: torch.ones(2)})


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (TO_Q, "does not begin with a component; .*`save_lora_weights`"),
        (f"unet.base_model.model.{TO_Q}", "has PEFT's prefix .* Remove it from every key"),
    ],
)
def test_keys_that_diffusers_ignores_are_refused(tmp_path, module, sentence):
    path = raw_file(tmp_path / "x.safetensors", unet_tensors(module=module))
    with pytest.raises(AdapterFormatError, match=sentence):
        load_adapter(path)


def test_what_save_lora_adapter_writes_is_refused(tmp_path):
    tensors = unet_tensors(".lora_A.weight", ".lora_B.weight", "mid.q")
    path = raw_file(tmp_path / "x.safetensors", tensors, {"lora_adapter_metadata": '{"r": 2}'})
    with pytest.raises(AdapterFormatError, match="does not begin with a component"):
        load_adapter(path)


def test_unexpected_key_is_refused(tmp_path):
    with pytest.raises(AdapterFormatError, match=r"`unet\.x\.weight` is no LoRA factor"):
        read(tmp_path, {**unet_tensors(), "unet.x.weight": torch.ones(2)})


def test_two_spellings_of_one_factor_are_refused(tmp_path):
    tensors = {**unet_tensors(), **unet_tensors(".lora_A.weight", ".lora_B.weight")}
    with pytest.raises(AdapterFormatError, match=r"has two A tensors, the second is"):
        read(tmp_path, tensors)


@pytest.mark.parametrize(("dropped", "missing"), [("down", "A"), ("up", "B")])
def test_missing_factor_is_refused(tmp_path, dropped, missing):
    tensors = {name: t for name, t in unet_tensors().items() if dropped not in name.split(".")}
    with pytest.raises(AdapterMismatchError, match=f"to_q` has `.` but no `{missing}`"):
        read(tmp_path, tensors)


def test_non_finite_value_is_refused_by_tensor_name(tmp_path):
    tensors = unet_tensors()
    tensors[f"unet.{TO_Q}.lora.up.weight"][3, 1] = torch.inf
    with pytest.raises(AdapterValueError, match=r"to_q.lora_B` has 1 values of 32 that are NaN"):
        read(tmp_path, tensors)


def test_integer_factor_is_refused(tmp_path):
    tensors = {name: tensor.int() for name, tensor in unet_tensors().items()}
    with pytest.raises(AdapterFormatError, match=r"is torch.int32, and must be floating point"):
        read(tmp_path, tensors)


@pytest.mark.parametrize(
    ("alpha", "error", "sentence"),
    [
        (torch.tensor(0.0), AdapterValueError, "has alpha 0, which must be finite and above 0"),
        (torch.tensor(torch.nan), AdapterValueError, "has alpha nan"),
        (torch.tensor(1e9), AdapterLimitError, r"has alpha 1e\+09, and at most 65536 is read"),
        (torch.ones(2), AdapterMismatchError, r"has an alpha of shape \(2,\)"),
    ],
)
def test_bad_alpha_is_refused(tmp_path, alpha, error, sentence):
    with pytest.raises(error, match=sentence):
        read(tmp_path, {**unet_tensors(), f"unet.{TO_Q}.alpha": alpha})


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (metadata(r=4), "has rank 2 in its tensors, but rank 4 in `lora_adapter_metadata`"),
        (metadata("text_encoder"), "`lora_adapter_metadata` has no fields of `unet`"),
        (metadata(target_modules=["to_k"]), "is not named by the `target_modules`"),
        (metadata() | metadata("unet", lora_alpha=4), "is scaled by 1 in its alpha tensor, but"),
    ],
)
def test_metadata_that_disagrees_is_refused(tmp_path, header, sentence):
    tensors = {**unet_tensors(), f"unet.{TO_Q}.alpha": torch.tensor(2.0)}
    with pytest.raises(AdapterMismatchError, match=sentence):
        read(tmp_path, tensors, header)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not valid UTF-8 JSON"),
        ("[]", "is a JSON list, no object"),
        ('{"vae.r": 2}', "has the field `vae.r`, and fields begin with a component"),
        ('{"unet.r": 2, "unet.lora_alpha": 2, "unet.use_dora": true}', "`use_dora` is set"),
    ],
)
def test_bad_metadata_is_refused(tmp_path, text, sentence):
    with pytest.raises(AdapterConfigError, match=sentence):
        read(tmp_path, unet_tensors(), {"lora_adapter_metadata": text})


def test_incomplete_adapter_is_refused_when_the_base_is_known(tmp_path):
    with pytest.raises(AdapterMismatchError, match="without tensors, but named by"):
        read(tmp_path, unet_tensors(), metadata(), base=pipeline_spec())


def test_module_of_another_base_is_refused(tmp_path):
    with pytest.raises(AdapterMismatchError, match="is not a module of the base `acme/tiny-sd`"):
        read(tmp_path, unet_tensors(module="unet.mid_block.x.to_q"), base=pipeline_spec())


def test_write_refuses_modules_without_component(tmp_path):
    adapter = Adapter(pairs={"mid_block.x": random_pair(3, 4)}, base="acme/tiny")
    with pytest.raises(AdapterMismatchError, match="does not begin with a component"):
        write_diffusers(adapter, tmp_path / "out")


def test_write_refuses_an_embedding(tmp_path):
    pair = replace(random_pair(3, 4), is_embedding=True)
    adapter = Adapter(pairs={"text_encoder.e": pair}, base="acme/tiny")
    with pytest.raises(AdapterMismatchError, match="adapts an embedding, which Diffusers does not"):
        write_diffusers(adapter, tmp_path / "out", exact=True)


def test_write_refuses_an_empty_adapter(tmp_path):
    with pytest.raises(AdapterMismatchError, match="has no modules, so there is nothing to write"):
        write_diffusers(Adapter(pairs={}), tmp_path / "out")


def test_write_replaces_only_when_allowed(tmp_path):
    adapter = random_adapter(pipeline_spec(), target=["to_q"])
    write_diffusers(adapter, tmp_path / "out")
    with pytest.raises(OutputPathError, match="exists already"):
        write_diffusers(adapter, tmp_path / "out")
    write_diffusers(adapter, tmp_path / "out", overwrite=True)
