"""An adapter for one runtime: judged by its rules, then written in the form it reads."""

from __future__ import annotations

from pathlib import Path

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.io import save_adapter
from lora_gen.adapter.portable import RuntimeVerdict, runtime_report
from lora_gen.adapter.profile import to_portable
from lora_gen.errors import AdapterMismatchError

RUNTIMES = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "lorax": "LoRAX",
    "llama.cpp": "llama.cpp",
    "ollama": "Ollama",
    "comfyui": "ComfyUI",
}
"""What a user types -> the runtime's name in its rules."""


def export_adapter(
    adapter: Adapter,
    folder: Path,
    runtime: str,
    *,
    base: BaseModelSpec,
    overwrite: bool = False,
) -> RuntimeVerdict:
    """Write an adapter in the portable profile, in the format of a runtime.

    Args:
        adapter: What to write.
        folder: Output folder.
        runtime: One of `RUNTIMES`.
        base: The base; for GGUF its id must be where its config is.
        overwrite: Replace a folder of ours that exists.

    Returns:
        The runtime's verdict, which says what to mind.

    Raises:
        AdapterMismatchError: There is no such runtime, or it would refuse the adapter.
    """
    if runtime not in RUNTIMES:
        raise AdapterMismatchError(
            f"`{runtime}` is not a runtime that is written for; choose {', '.join(RUNTIMES)}."
        )
    portable = to_portable(adapter)
    name = RUNTIMES[runtime]
    report = runtime_report(portable, architecture=base.architecture)
    verdict = next(verdict for verdict in report if verdict.runtime == name)
    problem = "" if verdict.accepts else verdict.reason
    if (runtime == "comfyui") != (base.kind == "diffusers"):
        problem = f"`{base.id}` is a base of {base.kind}"
    if problem:
        raise AdapterMismatchError(f"{name} would not apply this adapter: {problem}.")
    if runtime in ("llama.cpp", "ollama"):
        from lora_gen.adapter.gguf_format import write_gguf

        is_ollama = runtime == "ollama"
        write_gguf(portable, folder, base=base.id, modelfile=is_ollama, overwrite=overwrite)
    else:
        format = "diffusers" if runtime == "comfyui" else "peft"
        save_adapter(portable, folder, format=format, base=base, overwrite=overwrite)  # type: ignore[arg-type]
    return verdict
