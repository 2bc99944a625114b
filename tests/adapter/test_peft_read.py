from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
from adapter_factories import (
    plain_tensors,
    random_adapter,
    random_pair,
    raw_peft_folder,
    tiny_spec,
)

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.errors import (
    AdapterConfigError,
    AdapterFormatError,
    AdapterLimitError,
    AdapterMismatchError,
    AdapterValueError,
    UnsafeFileError,
)


def config_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def test_rslora_is_read_with_its_own_scaling(tmp_path):
    folder = raw_peft_folder(tmp_path / "in", use_rslora=True)
    assert load_adapter(folder).pairs["q"].scaling == pytest.approx(4 / 2**0.5)
    save_adapter(replace(load_adapter(folder), base="acme/tiny"), tmp_path / "out", exact=True)
    config = config_of(tmp_path / "out")
    assert config["use_rslora"] is False
    assert config["lora_alpha"] == pytest.approx(2 * 4 / 2**0.5)


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
@pytest.mark.parametrize("infix", ["", ".default"])
def test_prefix_and_adapter_name_are_optional(tmp_path, prefix, infix):
    tensors = {
        f"{prefix}q.lora_{side}{infix}.weight": tensor
        for side, tensor in zip("AB", plain_tensors().values(), strict=True)
    }
    assert set(load_adapter(raw_peft_folder(tmp_path, tensors=tensors)).pairs) == {"q"}


def test_patterns_apply_to_suffixes_and_anchors(tmp_path):
    tensors = {**plain_tensors("a.q", 2), **plain_tensors("q", 3)}
    folder = raw_peft_folder(
        tmp_path, tensors=tensors, rank_pattern={"^q": 3}, alpha_pattern={r"a\.q": 8}
    )
    scalings = {name: pair.scaling for name, pair in load_adapter(folder).pairs.items()}
    assert scalings == {"a.q": 4.0, "q": pytest.approx(4 / 3)}


@pytest.mark.parametrize(
    ("config", "error", "sentence"),
    [
        ({"peft_type": "LOHA"}, AdapterConfigError, "`peft_type` is `LOHA`; supported is `LORA`"),
        ({"peft_type": ...}, AdapterConfigError, "`peft_type` is `None`"),
        ({"use_dora": True}, AdapterConfigError, "`use_dora` is set: DoRA"),
        ({"modules_to_save": ["lm_head"]}, AdapterConfigError, "`modules_to_save` is set"),
        ({"target_parameters": ["x"]}, AdapterConfigError, "`target_parameters` is set: MoE"),
        ({"lora_bias": True}, AdapterConfigError, "`lora_bias` is set"),
        ({"bias": "all"}, AdapterConfigError, "`bias` is `all`; supported is `none`"),
        ({"trainable_token_indices": [1]}, AdapterConfigError, "`trainable_token_indices` is set"),
        ({"layer_replication": [[0, 1]]}, AdapterConfigError, "`layer_replication` is set"),
        ({"use_qalora": True}, AdapterConfigError, "`use_qalora` is set"),
        ({"use_bdlora": {"x": 1}}, AdapterConfigError, "`use_bdlora` is set"),
        ({"alora_invocation_tokens": [1]}, AdapterConfigError, "`alora_invocation_tokens` is set"),
        ({"arrow_config": {"a": 1}}, AdapterConfigError, "`arrow_config` is set"),
        ({"kasa_config": {"a": 1}}, AdapterConfigError, "`kasa_config` is set"),
        ({"init_lora_weights": "pissa_niter_4"}, AdapterConfigError, "changes the base's own"),
        ({"auto_mapping": {"parent_library": "os"}}, UnsafeFileError, "names the library `os`"),
        ({"megatron_core": "planted"}, UnsafeFileError, "`megatron_core` is `planted`"),
        ({"r": ...}, AdapterConfigError, "`r` is missing"),
        ({"r": "16"}, AdapterConfigError, "`r` is `16`, and must be a whole number"),
        ({"r": True}, AdapterConfigError, "`r` is `True`"),
        ({"r": 1.5}, AdapterConfigError, "`r` is `1.5`"),
        ({"r": 0}, AdapterLimitError, "`r` is `0`, and must be a whole number from 1 to 512"),
        ({"r": -8}, AdapterLimitError, "`r` is `-8`"),
        ({"r": 10**9}, AdapterLimitError, "`r` is `1000000000`"),
        ({"r": 10**3000}, AdapterLimitError, "`r` is `10000"),
        ({"lora_alpha": ...}, AdapterConfigError, "`lora_alpha` is missing"),
        ({"lora_alpha": 0}, AdapterConfigError, "`lora_alpha` is 0"),
        ({"lora_alpha": -1.0}, AdapterConfigError, "`lora_alpha` is -1"),
        ({"lora_alpha": 1e9}, AdapterLimitError, "`lora_alpha` is `1000000000.0`"),
        ({"lora_alpha": 10**3000}, AdapterLimitError, "`lora_alpha` is `10000"),
        ({"use_rslora": "yes"}, AdapterConfigError, "`use_rslora` is `yes`"),
        ({"rank_pattern": {"(a+)+$": 2}}, AdapterConfigError, r"has the key `\(a\+\)\+\$`"),
        ({"alpha_pattern": [1]}, AdapterConfigError, "`alpha_pattern` is a list"),
        ({"target_modules": ["(a+)+$"]}, AdapterConfigError, "only literal module names"),
        ({"target_modules": 3}, AdapterConfigError, "must be a list of names"),
        ({"base_model_name_or_path": 3}, AdapterConfigError, "must be text of at most 4096"),
        ({"base_model_name_or_path": "x" * 5000}, AdapterConfigError, "at most 4096"),
        ({"r": 4}, AdapterMismatchError, "`q` has rank 2 in its tensors, but rank 4 in"),
        ({"rank_pattern": {"q": 3}}, AdapterMismatchError, "but rank 3 in `adapter_config.json`"),
        ({"target_modules": ["k"]}, AdapterMismatchError, "`target_modules` does not name it"),
    ],
)
def test_config_is_refused_by_name(tmp_path, config, error, sentence):
    with pytest.raises(error, match=sentence):
        load_adapter(raw_peft_folder(tmp_path, **config))


def test_patterns_in_target_modules_are_never_run(tmp_path):
    folder = raw_peft_folder(tmp_path, target_modules="(a+)+$")
    assert set(load_adapter(folder).pairs) == {"q"}


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("q.lora_magnitude_vector", "is DoRA's magnitude"),
        ("q.lora_B.bias", "is a bias on B"),
        ("q.base_layer.weight", "is a weight of the base"),
        ("lm_head.weight", "is no LoRA factor, perhaps of a module saved in full"),
        ("embed.token_adapter.trainable_tokens_delta", "is trained tokens"),
        ("mlp.experts.lora_A.weight", "is a LoRA on MoE expert parameters"),
        ("mlp.experts.base_layer.lora_A.weight", "is a LoRA on MoE expert parameters"),
        ("q.hada_w1_a", "is a LoHa factor"),
        ("lora_unet_x.lora_down.weight", "is a kohya or Diffusers key"),
        ("embed.lora_embedding_A", "adapts an embedding, which few runtimes apply"),
    ],
)
def test_unexpected_tensors_are_refused_by_name(tmp_path, key, sentence):
    tensors = {**plain_tensors(), f"base_model.model.{key}": torch.ones(2, 2)}
    with pytest.raises(AdapterConfigError, match=sentence):
        load_adapter(raw_peft_folder(tmp_path, tensors=tensors))


def changed(**tensors):
    """The plain tensors with A and B replaced; None leaves one out."""
    named = {"A": tensors.get("a", ...), "B": tensors.get("b", ...)}
    plain = dict(zip("AB", plain_tensors().values(), strict=True))
    found = {side: plain[side] if value is ... else value for side, value in named.items()}
    return {f"q.lora_{side}.weight": t for side, t in found.items() if t is not None}


@pytest.mark.parametrize(
    ("tensors", "error", "sentence"),
    [
        (changed(a=None), AdapterMismatchError, "`q` has lora_B but no lora_A"),
        (changed(b=None), AdapterMismatchError, "`q` has lora_A but no lora_B"),
        (changed(a=torch.ones(3, 4)), AdapterMismatchError, "`q`: `lora_A` has rank 3, but"),
        (changed(a=torch.tensor(1.0)), AdapterMismatchError, r"`q`: `lora_A` has shape \(\)"),
        (changed(a=torch.ones(2, 0)), AdapterMismatchError, "`q` has an empty dimension"),
        (changed(a=torch.ones(2, 4).int()), AdapterFormatError, "must be floating point"),
        (
            changed(a=torch.ones(2, 4, 3, 3), b=torch.ones(3, 2, 3, 3)),
            AdapterMismatchError,
            r"a Conv2d's ends in \(1, 1\)",
        ),
        (changed(a=torch.full((2, 4), float("inf"))), AdapterValueError, "has 8 values of 8"),
        (changed(b=torch.full((3, 2), 1e30)), AdapterValueError, "delta weight of norm"),
        ({}, AdapterFormatError, "holds no LoRA tensors"),
        (
            {**changed(), "base_model.model.q.lora_A.weight": torch.ones(2, 4)},
            AdapterFormatError,
            "`q` has two lora_A tensors",
        ),
    ],
)
def test_tensors_are_checked_against_each_other(tmp_path, tensors, error, sentence):
    with pytest.raises(error, match=sentence):
        load_adapter(raw_peft_folder(tmp_path, tensors=tensors))


def test_adapter_of_another_base_is_refused(tmp_path):
    spec = tiny_spec()
    pairs = {"model.layers.7.self_attn.q_proj": random_pair(16, 16)}
    with pytest.raises(AdapterMismatchError, match="is not a module of the base `acme/tiny`"):
        save_adapter(Adapter(pairs=pairs, base="x"), tmp_path / "out", base=spec)
    folder = raw_peft_folder(
        tmp_path / "in",
        tensors=plain_tensors("model.layers.0.self_attn.q_proj"),
        target_modules=["q_proj"],
        layers_to_transform=[0],
    )
    with pytest.raises(AdapterMismatchError, match=r"needs \(2, 16\) and \(16, 2\)"):
        load_adapter(folder, base=spec)


def test_incomplete_adapter_is_refused_when_the_base_is_known(tmp_path):
    spec = tiny_spec()
    save_adapter(random_adapter(spec, target="attention"), tmp_path / "out", base=spec)
    config = config_of(tmp_path / "out")
    config["target_modules"] = [*config["target_modules"], "gate_proj"]
    (tmp_path / "out" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterMismatchError, match=r"has no tensors \(2 of 10 modules are missing"):
        load_adapter(tmp_path / "out", base=spec)


class Canary:
    """A pickle that writes a file when it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("corrupt", [False, True])
def test_pickles_are_never_opened(tmp_path, corrupt):
    folder = raw_peft_folder(tmp_path / "in")
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(b"broken file") if corrupt else weights.unlink()
    error = AdapterFormatError if corrupt else UnsafeFileError
    sentence = (
        "header alone claims"
        if corrupt
        else "has only `adapter_model.bin`, a pickle, which is never opened"
    )
    with pytest.raises(error, match=sentence):
        load_adapter(folder)
    assert not (tmp_path / "canary").exists()


def test_folder_without_config_is_refused(tmp_path):
    folder = raw_peft_folder(tmp_path)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterConfigError, match=r"`adapter_config.json` cannot be read"):
        load_adapter(folder)


def test_folder_without_weights_is_refused(tmp_path):
    (raw_peft_folder(tmp_path) / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterFormatError, match=r"has no `adapter_model.safetensors`"):
        load_adapter(tmp_path)
