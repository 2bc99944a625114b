"""Exports, runtime by runtime: one adapter that it applies and one that it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_factories import random_pair, tiny_config
from transformers import LlamaForCausalLM

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.adapter.export import RUNTIMES, export_adapter
from lora_gen.adapter.gguf_format import GGUF_NAME, MODELFILE_NAME, interleaved
from lora_gen.adapter.io import load_adapter
from lora_gen.errors import AdapterMismatchError

TEXT_RUNTIMES = [name for name in RUNTIMES if name != "comfyui"]


def _folder(tmp_path: Path, architecture: str = "LlamaForCausalLM") -> Path:
    config = tiny_config(architecture)
    config.architectures = [architecture]
    config.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def _adapter(spec: BaseModelSpec, target="all-linear", rank: int = 3) -> Adapter:
    shapes = {name: spec.modules[name] for name in select_targets(spec, target)}
    pairs = {
        name: random_pair(s.out_features, s.in_features, rank, scaling=2.0)
        for name, s in shapes.items()
    }
    return Adapter(pairs=pairs, base=spec.id, task_type=spec.task_type)


@pytest.mark.parametrize("runtime", TEXT_RUNTIMES)
def test_runtime_gets_an_adapter_in_its_form(tmp_path, runtime):
    spec = BaseModelSpec.from_config(_folder(tmp_path))
    verdict = export_adapter(_adapter(spec), tmp_path / "out", runtime, base=spec)
    assert verdict.accepts
    names = {path.name for path in (tmp_path / "out").iterdir()}
    if runtime in ("llama.cpp", "ollama"):
        assert (GGUF_NAME in names, MODELFILE_NAME in names) == (True, runtime == "ollama")
    else:
        assert load_adapter(tmp_path / "out", base=spec).max_rank == 8


@pytest.mark.parametrize(
    ("runtime", "architecture", "sentence"),
    [
        ("vllm", "ViTForImageClassification", "vLLM would not apply .* `conv` is not supported"),
        ("sglang", "ViTForImageClassification", "SGLang would not apply .* `conv`"),
        ("lorax", "ViTForImageClassification", "LoRAX would not apply .* `conv`"),
        ("llama.cpp", "ViTForImageClassification", r"llama.cpp would not apply .* `conv`"),
        ("ollama", "GPT2LMHeadModel", "`GPT2LMHeadModel` is not one of Llama, Mistral, Gemma"),
        ("comfyui", "LlamaForCausalLM", "is a base of transformers"),
        ("torchserve", "LlamaForCausalLM", "`torchserve` is not a runtime that is written for"),
    ],
)
def test_runtime_refuses_what_it_would_apply_wrongly(tmp_path, runtime, architecture, sentence):
    spec = BaseModelSpec.from_config(_folder(tmp_path, architecture))
    pairs = dict(_adapter(spec).pairs)
    if "ViT" in architecture:
        name = next(n for n, s in spec.modules.items() if s.type == "conv2d")
        a_shape, b_shape = spec.modules[name].factor_shapes(3)
        pairs[name] = replace(
            random_pair(1, 1), lora_a=torch.ones(a_shape), lora_b=torch.ones(b_shape)
        )
    with pytest.raises(AdapterMismatchError, match=sentence):
        export_adapter(Adapter(pairs=pairs, base=spec.id), tmp_path / "out", runtime, base=spec)
    assert not (tmp_path / "out").exists()


def test_gguf_read_by_its_own_package_is_the_same_delta(tmp_path):
    gguf = pytest.importorskip("gguf")
    spec = BaseModelSpec.from_config(_folder(tmp_path))
    adapter = _adapter(spec)
    export_adapter(adapter, tmp_path / "out", "llama.cpp", base=spec)
    reader = gguf.GGUFReader(str(tmp_path / "out" / GGUF_NAME))
    found = {t.name: torch.from_numpy(t.data.copy()) for t in reader.tensors}
    assert len(found) == 2 * len(adapter.pairs)
    pair = adapter.pairs["model.layers.1.mlp.down_proj"]
    delta = found["blk.1.ffn_down.weight.lora_b"] @ found["blk.1.ffn_down.weight.lora_a"]
    torch.testing.assert_close(delta, 2.0 * pair.lora_b @ pair.lora_a)
    assert reader.fields["adapter.lora.alpha"].parts[-1][0] == 8.0
    assert bytes(reader.fields["general.architecture"].parts[-1]) == b"llama"


def test_interleaved_rows_rotate_pairs_as_halves_do():
    """llama.cpp rotates neighbors, Transformers halves: after the permutation both agree."""
    heads, size = 2, 6
    rows = torch.arange(heads * size, dtype=torch.float32)[:, None]
    moved = interleaved(rows, heads).view(heads, size // 2, 2)
    halves = rows.view(heads, 2, size // 2)
    assert torch.equal(moved[..., 0], halves[:, 0])
    assert torch.equal(moved[..., 1], halves[:, 1])


def test_gguf_refuses_a_base_that_llama_cpp_converts_otherwise(tmp_path):
    pytest.importorskip("gguf")
    spec = BaseModelSpec.from_config(_folder(tmp_path, "GPT2LMHeadModel"))
    with pytest.raises(AdapterMismatchError, match=r"llama.cpp adapters of `gpt2` are not written"):
        export_adapter(_adapter(spec), tmp_path / "out", "llama.cpp", base=spec)


def test_exported_adapter_changes_the_base_as_before(tmp_path):
    from peft import PeftModel

    folder = _folder(tmp_path)
    torch.manual_seed(0)
    model = LlamaForCausalLM(tiny_config("LlamaForCausalLM")).eval()
    spec = BaseModelSpec.from_config(folder)
    adapter = _adapter(spec, ["q_proj"])
    export_adapter(adapter, tmp_path / "out", "vllm", base=spec)
    tokens = torch.arange(6)[None]
    merged = LlamaForCausalLM(model.config).eval()
    merged.load_state_dict(model.state_dict())
    for name, pair in adapter.pairs.items():
        merged.get_submodule(name).weight.data += 2.0 * pair.lora_b @ pair.lora_a
    loaded = PeftModel.from_pretrained(model, str(tmp_path / "out"))
    torch.testing.assert_close(loaded(tokens).logits, merged(tokens).logits, rtol=1e-4, atol=1e-4)
