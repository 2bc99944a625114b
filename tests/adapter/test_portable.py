from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapter_factories import plain_tensors, random_pair, raw_peft_folder

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import save_adapter
from lora_gen.adapter.portable import runtime_report

RUNTIMES = [
    "PEFT",
    "Transformers",
    "vLLM",
    "SGLang",
    "LoRAX",
    "llama.cpp",
    "Ollama",
    "ComfyUI",
]


def refusing(source, **options):
    return {v.runtime for v in runtime_report(source, **options) if not v.accepts}


def reason(source, runtime, **options):
    found = runtime_report(source, **options)
    return next(verdict.reason for verdict in found if verdict.runtime == runtime)


def portable(tmp_path, rank=8):
    adapter = Adapter(pairs={"q": random_pair(70, 70, rank, scaling=3.0)}, base="acme/tiny")
    return save_adapter(adapter, tmp_path / "out")


def test_every_runtime_accepts_the_portable_profile(tmp_path):
    folder = portable(tmp_path)
    assert [verdict.runtime for verdict in runtime_report(folder)] == RUNTIMES
    assert refusing(folder, architecture="LlamaForCausalLM") == set()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"use_rslora": True}, {"llama.cpp", "Ollama", "ComfyUI"}),
        ({"lora_alpha": 4}, {"ComfyUI"}),
        ({"lora_alpha": 2.5}, {"Ollama", "ComfyUI"}),
        (
            {"alpha_pattern": {"q": 3}},
            {"vLLM", "LoRAX", "llama.cpp", "Ollama", "ComfyUI"},
        ),
        ({"bias": "all"}, {"vLLM", "SGLang"}),
        ({"use_dora": True}, {"vLLM", "SGLang", "LoRAX", "llama.cpp", "Ollama", "ComfyUI"}),
        (
            {"modules_to_save": ["head"]},
            {"Transformers", "vLLM", "SGLang", "LoRAX", "llama.cpp", "Ollama", "ComfyUI"},
        ),
    ],
)
def test_runtimes_refuse_what_they_read_wrong(tmp_path, config, expected):
    assert refusing(raw_peft_folder(tmp_path, **{"lora_alpha": 2, **config})) == expected


def test_keys_without_prefix_are_no_adapter_to_peft(tmp_path):
    tensors = {k.removeprefix("base_model.model."): t for k, t in plain_tensors().items()}
    folder = raw_peft_folder(tmp_path, tensors=tensors, lora_alpha=2)
    assert refusing(folder) == {"PEFT"}
    assert "load silently as no adapter" in reason(folder, "PEFT")


def test_convolutions_are_for_image_runtimes(tmp_path):
    pair = replace(random_pair(1, 1), lora_a=torch.ones(8, 3, 3, 3), lora_b=torch.ones(4, 8, 1, 1))
    assert refusing(Adapter(pairs={"conv": pair})) == {
        "vLLM",
        "SGLang",
        "LoRAX",
        "llama.cpp",
        "Ollama",
    }


def test_mixed_ranks_in_memory_are_judged_as_exact():
    pairs = {"q": random_pair(9, 9, 4), "k": random_pair(9, 9, 2)}
    assert "vLLM" in refusing(Adapter(pairs=pairs))


def test_ollama_serves_some_families_only(tmp_path):
    folder = portable(tmp_path)
    assert refusing(folder, architecture="GPT2LMHeadModel") == {"Ollama"}
    assert "only for the families Llama, Mistral, Gemma" in reason(folder, "Ollama")


def test_large_ranks_say_how_to_start_vllm(tmp_path):
    assert reason(portable(tmp_path, rank=20), "vLLM") == "start it with `--max-lora-rank 32`"
