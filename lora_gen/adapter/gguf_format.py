"""Door to GGUF: an adapter as llama.cpp and Ollama read it, written by llama.cpp's own package.

Source: llama.cpp's `convert_lora_to_gguf.py`. Tensors carry the names of the converted base; its
q and k rows are interleaved for Llama and Mistral, so the rows of their B are too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.portable import runtime_report
from lora_gen.adapter.probe import config_folder
from lora_gen.adapter.probe_transformers import load_config
from lora_gen.adapter.profile import to_portable
from lora_gen.errors import AdapterMismatchError, MissingDependencyError
from lora_gen.files import publish_folder

GGUF_NAME = "adapter.gguf"
MODELFILE_NAME = "Modelfile"

_ARCHITECTURES: Mapping[str, str] = {
    "llama": "LLAMA",
    "mistral": "LLAMA",
    "qwen2": "QWEN2",
    "qwen3": "QWEN3",
    "gemma2": "GEMMA2",
    "gemma3_text": "GEMMA3",
    "phi3": "PHI3",
}
"""Model type of Transformers -> architecture of llama.cpp."""
_INTERLEAVED = ("llama", "mistral")


def write_gguf(
    adapter: Adapter,
    folder: Path,
    *,
    base: str | Path,
    modelfile: bool = False,
    overwrite: bool = False,
) -> None:
    """Publish a folder with `adapter.gguf`, and for Ollama a `Modelfile` that uses it.

    Args:
        adapter: What to write; its scaling goes into B.
        folder: Output folder.
        base: The base, whose config is read.
        modelfile: Write the `Modelfile` too.
        overwrite: Replace a folder of ours that exists.

    Raises:
        AdapterMismatchError: llama.cpp would refuse the adapter, or does not know the base or one
            of its modules.
        BaseModelError: The base's config cannot be had.
        MissingDependencyError: The package `gguf` is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingDependencyError(
            "Writing GGUF needs a package. Run `pip install 'lora_gen[gguf]'`."
        ) from error
    verdict = next(v for v in runtime_report(adapter) if v.runtime == "llama.cpp")
    portable = to_portable(adapter)
    config = load_config(config_folder(str(base)))
    if config.model_type not in _ARCHITECTURES:
        raise AdapterMismatchError(
            f"llama.cpp adapters of `{config.model_type}` are not written; known are "
            f"{', '.join(_ARCHITECTURES)}. Merge the adapter into its base instead."
        )
    if not verdict.accepts and "scale" not in verdict.reason:
        raise AdapterMismatchError(f"llama.cpp would refuse this adapter: {verdict.reason}.")
    names = gguf.get_tensor_name_map(
        getattr(gguf.MODEL_ARCH, _ARCHITECTURES[config.model_type]), config.num_hidden_layers
    )
    tensors = _tensors(portable, config, names)
    with publish_folder(folder, overwrite) as temp:
        writer: Any = gguf.GGUFWriter(
            str(temp / GGUF_NAME),
            gguf.MODEL_ARCH_NAMES[getattr(gguf.MODEL_ARCH, _ARCHITECTURES[config.model_type])],
        )
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(portable.max_rank))
        for name, tensor in sorted(tensors.items()):
            writer.add_tensor(name, tensor.float().contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        if modelfile:
            text = f"FROM {adapter.base}\nADAPTER ./{GGUF_NAME}\n"
            (temp / MODELFILE_NAME).write_text(text, encoding="utf-8")


def _tensors(adapter: Adapter, config: Any, names: Any) -> dict[str, Tensor]:
    """llama.cpp's names -> factors."""
    tensors: dict[str, Tensor] = {}
    for module, pair in adapter.pairs.items():
        name = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if name is None:
            raise AdapterMismatchError(
                f"`{module}` has no name in llama.cpp's `{config.model_type}`. Train without it."
            )
        rows_OR = pair.lora_b
        if config.model_type in _INTERLEAVED and module.endswith((".q_proj", ".k_proj")):
            kind = "num_attention_heads" if module.endswith(".q_proj") else "num_key_value_heads"
            rows_OR = interleaved(rows_OR, getattr(config, kind))
        tensors[f"{name}.lora_a"] = pair.lora_a
        tensors[f"{name}.lora_b"] = rows_OR
    return tensors


def interleaved(rows_OR: Tensor, heads: int) -> Tensor:
    """Rows of each head in llama.cpp's order: halves of a rotary pair beside each other."""
    half = rows_OR.shape[0] // heads // 2
    return rows_OR.view(heads, 2, half, -1).transpose(1, 2).reshape(rows_OR.shape)
