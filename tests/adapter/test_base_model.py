from __future__ import annotations

import json

import pytest
import torch
import transformers
from adapter_factories import tiny_config, tiny_model, tiny_spec
from peft import LoraConfig, get_peft_model

from lora_gen.adapter.base_model import (
    BaseModelSpec,
    ModuleShape,
    resolve_base,
    select_targets,
    shortest_suffixes,
)
from lora_gen.errors import AdapterMismatchError, BaseModelError

ARCHITECTURES = [
    "LlamaForCausalLM",
    "LlamaForSequenceClassification",
    "GPT2LMHeadModel",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "T5ForConditionalGeneration",
    "ViTForImageClassification",
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_linear_is_what_peft_chooses(architecture):
    spec = tiny_spec(architecture)
    with torch.device("meta"):
        model = getattr(transformers, architecture)(tiny_config(architecture))
    config = LoraConfig(target_modules="all-linear", task_type=spec.task_type)
    adapted = get_peft_model(model, config).named_modules()
    chosen = {n.removeprefix("base_model.model.") for n, m in adapted if hasattr(m, "lora_A")}
    assert set(select_targets(spec, "all-linear")) == chosen


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_and_mlp_do_not_overlap(architecture):
    spec = tiny_spec(architecture)
    attention, mlp = (set(select_targets(spec, target)) for target in ("attention", "mlp"))
    assert attention
    assert mlp
    assert not attention & mlp
    assert attention | mlp <= set(select_targets(spec, "all-linear"))


def test_spec_survives_json():
    spec = tiny_spec("GPT2LMHeadModel")
    assert BaseModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.modules["transformer.h.0.attn.c_attn"] == ModuleShape(
        type="conv1d", out_features=48, in_features=16
    )


def test_spec_refuses_a_dict_with_missing_fields():
    data = tiny_spec().to_dict()
    del data["modules"]
    with pytest.raises(BaseModelError, match=r"not readable \(KeyError: 'modules'\)"):
        BaseModelSpec.from_dict(data)


def test_spec_of_a_folder_is_that_of_its_config(tmp_path):
    tiny_model("LlamaForCausalLM").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    spec = BaseModelSpec.from_config(tmp_path)
    assert spec.config_hash == tiny_spec().config_hash
    assert (spec.num_layers, spec.hidden_size, spec.task_type) == (2, 16, "CAUSAL_LM")
    assert spec.id == str(tmp_path)
    assert spec.heads == ("lm_head",)


def test_spec_differs_between_configs():
    assert tiny_spec("LlamaForCausalLM").config_hash != tiny_spec("GPT2LMHeadModel").config_hash


def test_spec_of_a_unet_has_convolutions(tiny_unet):
    spec = BaseModelSpec.from_config(tiny_unet.folder)
    assert spec.kind == "diffusers"
    assert spec.architecture == "UNet2DConditionModel"
    assert spec.modules["conv_in"] == ModuleShape(
        type="conv2d", out_features=8, in_features=4, kernel=(3, 3)
    )
    assert (spec.num_layers, spec.hidden_size) == (4, 16)


def test_spec_of_a_pipeline_prefixes_its_components(tmp_path, tiny_unet):
    tiny_unet.model().save_pretrained(tmp_path / "unet")
    config = transformers.CLIPTextConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    config.save_pretrained(tmp_path / "text_encoder")
    index = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    spec = BaseModelSpec.from_config(tmp_path)
    assert {name.split(".")[0] for name in spec.modules} == {"unet", "text_encoder"}
    assert len(select_targets(spec, ["self_attn.q_proj"])) == 1
    assert spec.architecture == "UNet2DConditionModel"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, r"has no `config.json` and no `model_index.json`"),
        ({"config.json": {"model_type": "unheard-of"}}, "not one that Transformers knows"),
        (
            {"config.json": {"model_type": "llama", "auto_map": {"AutoModel": "x.Y"}}},
            r"needs code of its own \(`auto_map`\)",
        ),
        (
            {"config.json": {"model_type": "llama", "architectures": ["Evil"]}},
            "`Evil` is not a model of the installed Transformers",
        ),
        ({"model_index.json": {"vae": ["diffusers", "X"]}}, "without `unet` or `transformer`"),
        (
            {"model_index.json": {"unet": ["evil", "UNet"]}, "unet/config.json": {}},
            r"`evil.UNet` is not a model",
        ),
    ],
)
def test_spec_refuses_folders_by_name(tmp_path, files, sentence):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(BaseModelError, match=sentence):
        BaseModelSpec.from_config(tmp_path)


@pytest.mark.parametrize("source", ["../x", "a--b/c", "https://host/a", "x" * 97, "a/b/c"])
def test_base_refuses_what_cannot_be_an_id(source):
    with pytest.raises(BaseModelError, match="is neither an existing folder nor a hub id"):
        BaseModelSpec.from_config(source)
    with pytest.raises(BaseModelError, match="is neither an existing folder nor a hub id"):
        resolve_base(source)


def test_base_says_when_the_hub_cannot_be_asked():
    with pytest.raises(BaseModelError, match="The base `acme/absent` is not a local folder"):
        BaseModelSpec.from_config("acme/absent")
    with pytest.raises(BaseModelError, match="The base `acme/absent` is not a local folder"):
        resolve_base("acme/absent", local_files_only=True)


def test_base_refuses_objects_that_are_no_config():
    with pytest.raises(BaseModelError, match="`dict` is no base"):
        BaseModelSpec.from_config({"hidden_size": 3})


def test_folder_resolves_to_itself(tmp_path):
    assert resolve_base(str(tmp_path)) == tmp_path


def test_targets_name_the_nearest_module():
    with pytest.raises(BaseModelError, match=r"`q_prj` matches no module .* `q_proj`"):
        select_targets(tiny_spec(), ["q_prj"])


def test_suffixes_select_exactly_their_modules():
    known = ["a.0.q", "a.1.q", "a.0.k", "a.1.k", "b.q"]
    assert shortest_suffixes(["a.0.q", "a.1.q", "b.q"], known) == ["q"]
    assert shortest_suffixes(["a.0.q", "a.1.q"], known) == ["0.q", "1.q"]
    assert shortest_suffixes(["a.0.q"], []) == ["a.0.q"]


def test_suffixes_refuse_a_path_that_ends_another():
    with pytest.raises(AdapterMismatchError, match="`q` cannot be targeted alone"):
        shortest_suffixes(["q"], ["q", "b.q"])
