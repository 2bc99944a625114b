"""PEFT and Transformers themselves load what we write, and compute what the factors say."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from adapter_factories import (
    AUTO_CLASSES,
    CONTRACT_MODELS,
    logits_of,
    merged,
    random_adapter,
    tiny_model,
    tiny_spec,
)
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file

from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.adapter.io import load_adapter, save_adapter

ALL_MODELS = pytest.mark.parametrize("architecture", CONTRACT_MODELS)
PROFILES = pytest.mark.parametrize("exact", [False, True])


def written(folder: Path, architecture: str, exact: bool) -> tuple[Path, torch.Tensor]:
    """An adapter folder for a base saved beside it, and the logits of an independent merge."""
    base_folder = folder / "base"
    tiny_model(architecture).save_pretrained(base_folder)
    spec = BaseModelSpec.from_config(base_folder)
    save_adapter(random_adapter(spec), folder / "adapter", base=spec, exact=exact)
    adapter = load_adapter(folder / "adapter", base=spec)
    return folder / "adapter", logits_of(merged(tiny_model(architecture), adapter), architecture)


def require_effect(logits: torch.Tensor, expected: torch.Tensor, architecture: str) -> None:
    base = logits_of(tiny_model(architecture), architecture)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert (logits - base).abs().max() > 1e-3


@ALL_MODELS
@PROFILES
def test_written_folder_loads_with_peft(tmp_path, architecture, exact):
    folder, expected = written(tmp_path, architecture, exact)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(tiny_model(architecture), folder)
    assert not [w for w in caught if "missing" in str(w.message).lower()]
    stored = load_file(folder / "adapter_model.safetensors")
    assert set(get_peft_model_state_dict(model, save_embedding_layers=False)) == set(stored)
    require_effect(logits_of(model.eval(), architecture), expected, architecture)


@ALL_MODELS
@PROFILES
def test_written_folder_loads_with_transformers(tmp_path, architecture, exact):
    folder, expected = written(tmp_path, architecture, exact)
    model = tiny_model(architecture)
    info = model.load_adapter(folder)
    assert not info.missing_keys
    assert not info.unexpected_keys
    require_effect(logits_of(model.eval(), architecture), expected, architecture)


@ALL_MODELS
def test_written_folder_loads_as_a_model(tmp_path, architecture):
    folder, expected = written(tmp_path, architecture, False)
    auto = getattr(transformers, AUTO_CLASSES[architecture])
    model = auto.from_pretrained(folder).eval()
    require_effect(logits_of(model, architecture), expected, architecture)


@ALL_MODELS
def test_folder_saved_by_peft_reads_back(tmp_path, architecture):
    spec = tiny_spec(architecture)
    config = LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        target_modules="all-linear",
        init_lora_weights=False,
        task_type=spec.task_type,
    )
    model = get_peft_model(tiny_model(architecture), config).eval()
    model.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    adapter = load_adapter(tmp_path / "peft", base=spec)
    assert set(adapter.pairs) == set(select_targets(spec, "all-linear"))
    expected = logits_of(model, architecture)
    actual = logits_of(merged(tiny_model(architecture), adapter), architecture)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_patterns_are_applied_by_peft_as_written(tmp_path):
    spec = tiny_spec()
    adapter = random_adapter(spec, scaling=1.5)
    first = next(iter(adapter.pairs))
    wide = random_adapter(spec, rank=6, scaling=0.25).pairs[first]
    adapter = replace(adapter, pairs={**adapter.pairs, first: wide})
    save_adapter(adapter, tmp_path / "adapter", base=spec, exact=True)
    model = PeftModel.from_pretrained(tiny_model("LlamaForCausalLM"), tmp_path / "adapter")
    expected = logits_of(merged(tiny_model("LlamaForCausalLM"), adapter), "LlamaForCausalLM")
    require_effect(logits_of(model.eval(), "LlamaForCausalLM"), expected, "LlamaForCausalLM")


def test_rank_pattern_of_peft_is_read(tmp_path):
    config = LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"layers.1.self_attn.v_proj": 5},
        alpha_pattern={"^model.layers.0.mlp.down_proj": 7, "q_proj": 9},
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(tiny_model("LlamaForCausalLM"), config).eval()
    model.save_pretrained(tmp_path / "peft")
    adapter = load_adapter(tmp_path / "peft", base=tiny_spec())
    actual = logits_of(merged(tiny_model("LlamaForCausalLM"), adapter), "LlamaForCausalLM")
    torch.testing.assert_close(actual, logits_of(model, "LlamaForCausalLM"), atol=1e-5, rtol=1e-5)


def test_adapter_of_some_layers_is_targeted_exactly(tmp_path):
    spec = tiny_spec()
    adapter = random_adapter(spec, target=["layers.1.self_attn.q_proj", "down_proj"])
    save_adapter(adapter, tmp_path / "adapter", base=spec)
    model = PeftModel.from_pretrained(tiny_model("LlamaForCausalLM"), tmp_path / "adapter")
    adapted = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert {name.removeprefix("base_model.model.") for name in adapted} == set(adapter.pairs)


def test_convolutions_load_with_peft(tmp_path, tiny_unet):
    spec = BaseModelSpec.from_config(tiny_unet.folder)
    convolutions = [name for name, shape in spec.modules.items() if shape.type == "conv2d"]
    adapter = random_adapter(spec, target=[*convolutions, "to_q"], rank=2, scaling=0.5)
    save_adapter(adapter, tmp_path / "adapter", base=spec)
    expected = tiny_unet.output(merged(tiny_unet.model(), adapter))
    model = PeftModel.from_pretrained(tiny_unet.model(), tmp_path / "adapter")
    kernels = {spec.modules[name].kernel for name in convolutions}
    assert kernels == {(1, 1), (3, 3)}
    torch.testing.assert_close(tiny_unet.output(model), expected, atol=1e-5, rtol=1e-5)


def test_embeddings_load_with_peft_when_asked_for(tmp_path):
    config = LoraConfig(r=2, target_modules=["wte"], init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(tiny_model("GPT2LMHeadModel"), config).eval()
    model.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    adapter = load_adapter(tmp_path / "peft", allow_embeddings=True)
    adapter = replace(adapter, base="acme/tiny")
    save_adapter(adapter, tmp_path / "again", exact=True)
    again = PeftModel.from_pretrained(tiny_model("GPT2LMHeadModel"), tmp_path / "again").eval()
    expected = logits_of(model, "GPT2LMHeadModel")
    torch.testing.assert_close(logits_of(again, "GPT2LMHeadModel"), expected)
