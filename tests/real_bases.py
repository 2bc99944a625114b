"""Public bases as configs alone, with the parameter counts that their makers publish."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from lora_gen.adapter.base_model import BaseModelSpec, ModuleShape
from lora_gen.adapter.probe_diffusers import meta_component
from lora_gen.adapter.probe_transformers import load_config, meta_transformers

BASES = Path(__file__).parent.parent / "recipes" / "benchmarks" / "bases"

PUBLISHED: dict[str, int] = {
    "bert-base-uncased": 109_514_298,
    # Transformers 5 ties the head that the published file holds apart: 32,128 x 768 values fewer.
    "flan-t5-base": 247_577_856 - 32_128 * 768,
    "flux.1-dev": 11_901_408_320,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-1b": 999_885_952,
    "gemma-3-4b": 4_300_079_472,
    "gpt2": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "mistral-7b-instruct-v0.2": 7_241_732_096,
    "modernbert-base": 149_655_232,
    "modernbert-large": 395_881_664,
    "phi-2": 2_779_683_840,
    "phi-3-mini-4k": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
    "sd-1.5": 859_520_964,
    "sd3-medium": 2_028_328_000,
    "sdxl": 2_567_463_684,
    "vit-base-patch16-224": 86_567_656,
    "whisper-large-v3": 1_543_490_560,
    "whisper-small": 241_734_912,
}
"""Parameters of each base; for a pipeline, of its denoiser."""

LARGE = {
    *("gemma-2-9b", "gpt2-xl", "llama-3.1-70b", "modernbert-large", "phi-4", "qwen3-8b"),
    *("qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b", "qwen2.5-14b", "qwen2.5-32b", "qwen2.5-72b"),
    *("flux.1-dev", "sd3-medium", "sdxl", "whisper-large-v3"),
}
"""Further sizes of an architecture, or pipelines whose layouts take many seconds."""


def base_names() -> list[object]:
    """Every base, the large ones marked as slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in PUBLISHED
    ]


def spec_of(name: str) -> BaseModelSpec:
    return BaseModelSpec.from_config(BASES / name)


def meta_parts(name: str) -> Iterator[tuple[str, nn.Module]]:
    """Prefix of module paths, and the model on the meta device; the denoiser comes first."""
    folder = BASES / name
    if (folder / "config.json").is_file():
        yield "", meta_transformers(load_config(folder))[1]
        return
    index = json.loads((folder / "model_index.json").read_text())
    parts = sorted((part for part, entry in index.items() if isinstance(entry, list)), key=len)
    for part in sorted(parts, key=lambda part: part.startswith("text_encoder")):
        yield f"{part}.", meta_component(folder / part, *index[part])[1]


def one_of_each(spec: BaseModelSpec) -> list[str]:
    """The first module of every shape and last name."""
    found: dict[tuple[str, ModuleShape], str] = {}
    for name, shape in spec.modules.items():
        if name not in spec.heads:
            found.setdefault((name.rsplit(".", 1)[-1], shape), name)
    return sorted(found.values())
