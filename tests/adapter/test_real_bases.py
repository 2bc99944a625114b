"""Public architectures at their real sizes: no weight exists here, only configs and shapes."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from real_bases import BASES, PUBLISHED, base_names, meta_parts, one_of_each, spec_of

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import COMPONENTS, BaseModelSpec, select_targets
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.adapter.portable import runtime_report
from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.roles import role_of

RANK = 16


def factor_shapes(model, prefix=""):
    """Module path -> the two shapes that PEFT gave its factors."""
    return {
        prefix + name.removeprefix("base_model.model."): (
            *(tuple(getattr(m, side)["default"].weight.shape) for side in ("lora_A", "lora_B")),
        )
        for name, m in model.named_modules()
        if hasattr(m, "lora_A")
    }


def pair_of(shape, rank, seed=0):
    source = torch.Generator().manual_seed(seed)
    return LoraPair(
        **{
            side: torch.randn(size, generator=source)
            for side, size in zip(("lora_a", "lora_b"), shape.factor_shapes(rank), strict=True)
        }
    )


def adapter_of(spec, modules, rank=8):
    pairs = {name: pair_of(spec.modules[name], rank, i) for i, name in enumerate(modules)}
    return Adapter(pairs=pairs, base=spec.id, task_type=spec.task_type)


def test_every_listed_base_has_a_config():
    assert {path.name for path in BASES.iterdir()} == set(PUBLISHED)


@pytest.mark.parametrize("name", base_names())
def test_config_gives_the_published_number_of_parameters(name):
    _, model = next(meta_parts(name))
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", base_names())
def test_spec_has_the_factor_shapes_of_peft(name):
    spec = spec_of(name)
    found = {}
    for prefix, model in meta_parts(name):
        own = [n.removeprefix(prefix) for n in spec.modules if n.startswith(prefix)]
        with torch.device("meta"):
            inject_adapter_in_model(LoraConfig(r=RANK, target_modules=own), model)
        found |= factor_shapes(model, prefix)
    expected = {n: shape.factor_shapes(RANK) for n, shape in spec.modules.items()}
    assert found == expected


@pytest.mark.parametrize("name", base_names())
def test_all_linear_is_what_peft_adapts_at_real_size(name):
    spec = spec_of(name)
    if spec.kind == "diffusers":
        pytest.skip("PEFT defines all-linear for Transformers models alone")
    _, model = next(meta_parts(name))
    config = LoraConfig(r=RANK, target_modules="all-linear", task_type=spec.task_type)
    with torch.device("meta"):
        adapted = get_peft_model(model, config)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    layout = TokenLayout.build(spec, rank=RANK, width=128)
    assert {m.name for m in layout.modules} == set(factor_shapes(adapted))
    assert sum(RANK * (m.in_features + m.out_features) for m in layout.modules) == trained


@pytest.mark.parametrize("name", base_names())
def test_adapter_of_each_module_shape_survives_its_folder(name, tmp_path):
    spec = spec_of(name)
    adapter = adapter_of(spec, one_of_each(spec))
    is_pipeline = next(iter(spec.modules)).split(".")[0] in COMPONENTS
    format = "diffusers" if is_pipeline else "peft"
    save_adapter(adapter, tmp_path / "out", format=format, base=spec)
    loaded = load_adapter(tmp_path / "out", base=spec)
    assert set(loaded.pairs) == set(adapter.pairs)
    for module, pair in adapter.pairs.items():
        torch.testing.assert_close(loaded.pairs[module].lora_a, pair.lora_a)
        torch.testing.assert_close(loaded.pairs[module].lora_b, pair.lora_b)


@pytest.mark.parametrize("name", base_names())
def test_runtimes_judge_an_adapter_of_each_architecture(name):
    spec = spec_of(name)
    linear = [n for n in one_of_each(spec) if spec.modules[n].type != "conv2d"]
    verdicts = runtime_report(adapter_of(spec, linear), architecture=spec.architecture)
    refused = {v.runtime for v in verdicts if not v.accepts}
    is_served = spec.architecture.startswith(("Llama", "Mistral", "Gemma"))
    assert refused == (set() if is_served else {"Ollama"})


@pytest.mark.parametrize("name", base_names())
def test_spec_of_a_real_base_survives_json(name):
    spec = spec_of(name)
    assert BaseModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("name", base_names())
def test_most_modules_of_a_real_base_have_a_role(name):
    spec = spec_of(name)
    names = select_targets(spec, "all-linear")
    others = {n.rsplit(".", 1)[-1] for n in names if role_of(n) == "other"}
    assert sum(role_of(n) == "other" for n in names) <= len(names) // 4, others
