"""Which runtime would refuse an adapter, or apply it wrongly, and why.

The rules are those of PEFT 0.21, Transformers 5, vLLM, SGLang, LoRAX, llama.cpp, Ollama and ComfyUI
as published; a runtime that reads an adapter silently wrong counts as refusing it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.peft_config import CONFIG_NAME, WEIGHTS_NAME
from lora_gen.adapter.profile import PORTABLE_RANKS, to_portable
from lora_gen.files import read_json, read_safetensors_header
from lora_gen.strict_json import DEFAULT_LIMITS, Limits

__all__ = ["PORTABLE_RANKS", "AdapterFacts", "RuntimeVerdict", "runtime_report", "to_portable"]

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
VLLM_DEFAULT_RANK = 16
OLLAMA_FAMILIES = ("Llama", "Mistral", "Gemma")


@dataclass(frozen=True, kw_only=True)
class RuntimeVerdict:
    """Whether one runtime applies an adapter as PEFT does."""

    runtime: str
    accepts: bool
    reason: str
    """Why it refuses, or what to mind when it accepts."""


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """What the runtimes' rules look at."""

    features: frozenset[str]
    """Names of what is beyond plain LoRA: `use_dora`, `modules_to_save`, `bias`, `conv` …"""

    max_rank: int
    uniform_scaling: bool
    alpha_is_rank: bool
    whole_alpha: bool
    base: str | None
    architecture: str | None = None
    """Class name of the base, when known."""

    has_prefix: bool = True
    """Whether every key begins with `base_model.model.`."""

    dtype: str = "F32"


def runtime_report(
    source: Adapter | str | Path,
    *,
    architecture: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> list[RuntimeVerdict]:
    """One verdict a runtime.

    Args:
        source: A PEFT folder, judged as it lies there even when we cannot load it, or an adapter in
            memory, judged as `exact=True` would write it.
        architecture: Class name of the base, for the runtimes that serve only some families.
        limits: Bounds on the files.

    Raises:
        LoraGenError: The folder's config or header is not readable.
    """
    facts = (
        _facts_of_adapter(source, architecture)
        if isinstance(source, Adapter)
        else _facts_of_folder(Path(source), architecture, limits)
    )
    return [_judge(runtime, rule(facts), facts) for runtime, rule in _RULES.items()]


def _judge(runtime: str, problems: list[str], facts: AdapterFacts) -> RuntimeVerdict:
    if problems:
        return RuntimeVerdict(runtime=runtime, accepts=False, reason="; ".join(problems))
    note = _NOTES[runtime](facts) if runtime in _NOTES else ""
    return RuntimeVerdict(runtime=runtime, accepts=True, reason=note or "reads it as PEFT does")


def _facts_of_adapter(adapter: Adapter, architecture: str | None) -> AdapterFacts:
    pairs = list(adapter.pairs.values())
    features = set()
    if any(pair.is_conv for pair in pairs):
        features.add("conv")
    if any(pair.is_embedding for pair in pairs):
        features.add("embedding")
    if len({pair.rank for pair in pairs}) > 1:
        features.add("rank_pattern")
    if len({round(pair.scaling * pair.rank, 9) for pair in pairs}) > 1:
        features.add("alpha_pattern")
    return AdapterFacts(
        features=frozenset(features),
        max_rank=adapter.max_rank,
        uniform_scaling=not {"rank_pattern", "alpha_pattern"} & features,
        alpha_is_rank=all(abs(pair.scaling - 1) < 1e-9 for pair in pairs),
        whole_alpha=all(abs(pair.scaling * pair.rank % 1) < 1e-9 for pair in pairs),
        base=adapter.base,
        architecture=architecture,
    )


def _facts_of_folder(folder: Path, architecture: str | None, limits: Limits) -> AdapterFacts:
    config = read_json(folder / CONFIG_NAME, limits=limits)
    header = read_safetensors_header(folder / WEIGHTS_NAME, limits)
    factors = {n: i for n, i in header.tensors.items() if ".lora_A." in n or "embedding_A" in n}
    ranks = [info.shape[0] for info in factors.values() if info.shape] or [0]
    features = {name for name in _FEATURES if config.get(name)}
    if config.get("bias", "none") != "none":
        features.add("bias")
    if any(len(info.shape) == 4 for info in factors.values()):
        features.add("conv")
    if any("lora_embedding_" in name for name in header.tensors):
        features.add("embedding")
    if any(".lm_head." in name for name in header.tensors):
        features.add("lm_head")
    if len(set(ranks)) > 1:
        features.add("rank_pattern")
    alpha, dtypes = config.get("lora_alpha"), {info.dtype for info in header.tensors.values()}
    plain = not {"use_rslora", "rank_pattern", "alpha_pattern"} & features
    base = config.get("base_model_name_or_path")
    return AdapterFacts(
        features=frozenset(features),
        max_rank=max(ranks),
        uniform_scaling=not {"rank_pattern", "alpha_pattern"} & features,
        alpha_is_rank=plain and alpha == max(ranks),
        whole_alpha=isinstance(alpha, int),
        base=base if isinstance(base, str) else None,
        architecture=architecture,
        has_prefix=all(name.startswith("base_model.model.") for name in header.tensors),
        dtype=", ".join(sorted(dtypes)),
    )


_FEATURES = (
    "use_rslora",
    "use_dora",
    "modules_to_save",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "target_parameters",
    "trainable_token_indices",
)


def _found(facts: AdapterFacts, *features: str) -> list[str]:
    return [f"`{name}` is not supported" for name in features if name in facts.features]


def _peft(facts: AdapterFacts) -> list[str]:
    if facts.has_prefix:
        return []
    return ["keys without `base_model.model.` load silently as no adapter"]


def _transformers(facts: AdapterFacts) -> list[str]:
    return _found(facts, "modules_to_save")


def _vllm(facts: AdapterFacts) -> list[str]:
    problems = _found(
        facts, "modules_to_save", "use_dora", "bias", "lora_bias", "target_parameters", "conv"
    )
    if not facts.uniform_scaling:
        problems.append("it has one scale for all modules, so patterns are read wrong")
    if facts.max_rank > VLLM_RANKS[-1]:
        problems.append(f"rank {facts.max_rank} is above {VLLM_RANKS[-1]}")
    return problems


def _sglang(facts: AdapterFacts) -> list[str]:
    return _found(facts, "use_dora", "modules_to_save", "lora_bias", "bias", "conv")


def _lorax(facts: AdapterFacts) -> list[str]:
    problems = _found(facts, "use_dora", "modules_to_save", "lora_bias", "conv", "embedding")
    return problems + _patterns_ignored(facts)


def _llama_cpp(facts: AdapterFacts) -> list[str]:
    problems = _found(facts, "modules_to_save", "use_dora", "lora_bias", "conv", "lm_head")
    if "use_rslora" in facts.features:
        problems.append("`use_rslora` is ignored, so the scale is wrong")
    if "alpha_pattern" in facts.features:
        problems.append("`alpha_pattern` is ignored, so the scale is wrong")
    return problems


def _ollama(facts: AdapterFacts) -> list[str]:
    problems = _llama_cpp(facts)
    if not facts.whole_alpha:
        problems.append("`lora_alpha` must be a whole number")
    if facts.architecture and not facts.architecture.startswith(OLLAMA_FAMILIES):
        problems.append(f"`{facts.architecture}` is not one of {', '.join(OLLAMA_FAMILIES)}")
    return problems


def _comfyui(facts: AdapterFacts) -> list[str]:
    problems = _found(facts, "use_dora", "modules_to_save")
    if not facts.alpha_is_rank:
        problems.append("it reads the tensors alone, so `lora_alpha` must equal `r`")
    return problems


def _patterns_ignored(facts: AdapterFacts) -> list[str]:
    return (
        [] if facts.uniform_scaling else ["one scale for all modules, so patterns are read wrong"]
    )


def _vllm_note(facts: AdapterFacts) -> str:
    needed = next((rank for rank in VLLM_RANKS if rank >= facts.max_rank), VLLM_RANKS[-1])
    return f"start it with `--max-lora-rank {needed}`" if needed > VLLM_DEFAULT_RANK else ""


def _ollama_note(facts: AdapterFacts) -> str:
    return "" if facts.architecture else f"only for the families {', '.join(OLLAMA_FAMILIES)}"


_RULES: Mapping[str, Callable[[AdapterFacts], list[str]]] = {
    "PEFT": _peft,
    "Transformers": _transformers,
    "vLLM": _vllm,
    "SGLang": _sglang,
    "LoRAX": _lorax,
    "llama.cpp": _llama_cpp,
    "Ollama": _ollama,
    "ComfyUI": _comfyui,
}
_NOTES: Mapping[str, Callable[[AdapterFacts], str]] = {
    "vLLM": _vllm_note,
    "Ollama": _ollama_note,
    "ComfyUI": lambda _: "for image models; convert with `--format diffusers`",
}
