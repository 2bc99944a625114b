from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from adapter_factories import (
    dense_delta,
    random_adapter,
    random_pair,
    tiny_spec,
)
from peft import LoraConfig
from peft import __version__ as installed_peft

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.adapter.peft_config import DEFAULT_FIELDS, PEFT_VERSION
from lora_gen.adapter.peft_format import write_peft
from lora_gen.adapter.profile import cast_factors
from lora_gen.errors import (
    AdapterMismatchError,
    AdapterValueError,
    OutputPathError,
)


def config_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def one_module(rank=4, scaling=2.0):
    return Adapter(pairs={"q": random_pair(6, 5, rank, scaling=scaling)}, base="acme/tiny")


def test_config_fields_are_those_of_the_installed_peft(tmp_path):
    LoraConfig(target_modules=["q"]).save_pretrained(tmp_path)
    assert set(config_of(tmp_path)) == set(DEFAULT_FIELDS)
    assert installed_peft == PEFT_VERSION


def test_config_defaults_are_those_of_the_installed_peft(tmp_path):
    LoraConfig(target_modules=["q"], inference_mode=True).save_pretrained(tmp_path)
    saved = config_of(tmp_path)
    differing = {name for name, value in DEFAULT_FIELDS.items() if saved[name] != value}
    assert differing == {"target_modules"}


@pytest.mark.parametrize("rank", [1, 4, 8, 9, 33])
def test_portable_profile_pads_without_changing_the_delta(tmp_path, rank):
    adapter = one_module(rank)
    save_adapter(adapter, tmp_path / "out")
    config, read = config_of(tmp_path / "out"), load_adapter(tmp_path / "out")
    assert config["r"] == config["lora_alpha"] in (8, 16, 64)
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    assert isinstance(config["lora_alpha"], int)
    torch.testing.assert_close(dense_delta(read.pairs["q"]), dense_delta(adapter.pairs["q"]))


def test_exact_keeps_ranks_and_scalings(tmp_path):
    pairs = {"a.q": random_pair(6, 5, 4, scaling=0.3), "a.k": random_pair(6, 5, 2, scaling=1.7)}
    adapter = Adapter(pairs={**pairs, "q": random_pair(3, 5, 4, scaling=0.3)}, base="acme/tiny")
    save_adapter(adapter, tmp_path / "out", exact=True)
    read = load_adapter(tmp_path / "out")
    for name, pair in adapter.pairs.items():
        assert torch.equal(read.pairs[name].lora_a, pair.lora_a)
        assert read.pairs[name].scaling == pytest.approx(pair.scaling)


@pytest.mark.parametrize("exact", [False, True])
def test_save_load_save_is_byte_equal(tmp_path, exact):
    spec = tiny_spec()
    save_adapter(random_adapter(spec, scaling=1 / 3), tmp_path / "one", base=spec, exact=exact)
    again = load_adapter(tmp_path / "one", base=spec)
    save_adapter(again, tmp_path / "two", base=spec, exact=exact)
    for name in ("adapter_model.safetensors", "adapter_config.json", "README.md", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_written_config_names_its_base_and_targets(tmp_path):
    spec = tiny_spec()
    save_adapter(random_adapter(spec, target="attention"), tmp_path / "out", base=spec)
    config = config_of(tmp_path / "out")
    assert config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert config["base_model_name_or_path"] == "acme/tiny"
    assert (config["revision"], config["task_type"]) == ("abc", "CAUSAL_LM")
    assert config["fan_in_fan_out"] is False


def test_conv1d_modules_are_marked_as_fan_in_fan_out(tmp_path):
    spec = tiny_spec("GPT2LMHeadModel")
    save_adapter(random_adapter(spec), tmp_path / "out", base=spec)
    assert config_of(tmp_path / "out")["fan_in_fan_out"] is True


def test_card_and_provenance_are_written_beside(tmp_path):
    save_adapter(one_module(), tmp_path / "out", card="# Mine\n", provenance={"seed": 3})
    assert (tmp_path / "out" / "README.md").read_text() == "# Mine\n"
    assert json.loads((tmp_path / "out" / "lora_gen.json").read_text()) == {"seed": 3}


def test_default_card_names_the_base(tmp_path):
    save_adapter(one_module(), tmp_path / "out")
    assert 'base_model: "acme/tiny"' in (tmp_path / "out" / "README.md").read_text()


def test_dtype_is_kept_or_chosen(tmp_path):
    write_peft(one_module(), tmp_path / "half", dtype=torch.bfloat16)
    assert load_adapter(tmp_path / "half").pairs["q"].lora_a.dtype == torch.bfloat16
    save_adapter(one_module(), tmp_path / "full")
    assert load_adapter(tmp_path / "full").pairs["q"].lora_a.dtype == torch.float32


def test_overflow_of_a_narrow_dtype_is_refused():
    pair = replace(random_pair(2, 2, 2), lora_b=torch.full((2, 2), 1e6))
    with pytest.raises(AdapterValueError, match=r"`q.lora_b` overflows torch.float16"):
        cast_factors(Adapter(pairs={"q": pair}), torch.float16)


def test_existing_output_is_refused_without_overwrite(tmp_path):
    save_adapter(one_module(), tmp_path / "out")
    with pytest.raises(OutputPathError, match="exists already"):
        save_adapter(one_module(), tmp_path / "out")
    save_adapter(one_module(scaling=5.0), tmp_path / "out", overwrite=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_rank_beyond_the_profile_is_refused(tmp_path):
    with pytest.raises(AdapterMismatchError, match="has rank 65, and portable ranks are 8, 16"):
        save_adapter(one_module(65), tmp_path / "out")


def test_adapter_without_base_is_refused_by_the_profile(tmp_path):
    with pytest.raises(AdapterMismatchError, match="names no base, and the portable profile"):
        save_adapter(replace(one_module(), base=None), tmp_path / "out")


def test_adapter_without_modules_is_refused(tmp_path):
    with pytest.raises(AdapterMismatchError, match="has no modules"):
        save_adapter(Adapter(pairs={}, base="x"), tmp_path / "out")


def test_values_that_are_not_finite_are_never_written(tmp_path):
    pair = replace(random_pair(2, 2, 2), lora_b=torch.full((2, 2), float("nan")))
    with pytest.raises(AdapterValueError, match=r"`q.lora_B` has 4 values of 4"):
        save_adapter(Adapter(pairs={"q": pair}, base="x"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_component_of_a_pipeline_is_no_peft_folder(tmp_path):
    spec = replace(tiny_spec(), kind="diffusers")
    modules = {f"unet.{name}": shape for name, shape in spec.modules.items()}
    spec = replace(spec, modules=modules, heads=())
    with pytest.raises(AdapterMismatchError, match="`unet` is one of several models"):
        save_adapter(random_adapter(spec, target="attention"), tmp_path / "out", base=spec)
