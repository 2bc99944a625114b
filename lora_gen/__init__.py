"""Describe a task, get a LoRA adapter.

The public names are loaded on first use, so that `import lora_gen` loads neither torch nor a model
library.

Shape legend: a local tensor or an argument of `forward` ends in its dimensions, as in `noisy_BND`.

    B adapters in a batch       N tokens of an adapter      D width of a token
    H hidden width              K condition tokens          C condition width
    R LoRA rank                 O out features              I in features
    E embedding width           S sampler steps             1 a broadcast axis

A file may add letters of its own, listed at its top. Names that a user types carry no suffix.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter, LoraPair
    from lora_gen.adapter.base_model import BaseModelSpec, resolve_base
    from lora_gen.adapter.io import load_adapter, save_adapter
    from lora_gen.codec.layout import TokenLayout
    from lora_gen.conditioning.condition import Condition
    from lora_gen.errors import LoraGenError
    from lora_gen.pipeline import LoraGenPipeline
    from lora_gen.retrieval.predict import score_adapter
    from lora_gen.retrieval.search import AdapterIndex
    from lora_gen.weight_space.compress import compress_adapter
    from lora_gen.weight_space.edit import edit_adapter
    from lora_gen.weight_space.federate import federate_adapters
    from lora_gen.weight_space.lineage import lineage
    from lora_gen.weight_space.merge import merge_adapters
    from lora_gen.zoo.store import Zoo

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "AdapterIndex",
    "BaseModelSpec",
    "Condition",
    "LoraGenError",
    "LoraGenPipeline",
    "LoraPair",
    "TokenLayout",
    "Zoo",
    "compress_adapter",
    "edit_adapter",
    "federate_adapters",
    "lineage",
    "load_adapter",
    "merge_adapters",
    "resolve_base",
    "save_adapter",
    "score_adapter",
]

_HOMES = {
    "Adapter": "lora_gen.adapter.adapter",
    "AdapterIndex": "lora_gen.retrieval.search",
    "BaseModelSpec": "lora_gen.adapter.base_model",
    "Condition": "lora_gen.conditioning.condition",
    "LoraGenError": "lora_gen.errors",
    "LoraGenPipeline": "lora_gen.pipeline",
    "LoraPair": "lora_gen.adapter.adapter",
    "TokenLayout": "lora_gen.codec.layout",
    "Zoo": "lora_gen.zoo.store",
    "compress_adapter": "lora_gen.weight_space.compress",
    "edit_adapter": "lora_gen.weight_space.edit",
    "federate_adapters": "lora_gen.weight_space.federate",
    "lineage": "lora_gen.weight_space.lineage",
    "load_adapter": "lora_gen.adapter.io",
    "merge_adapters": "lora_gen.weight_space.merge",
    "resolve_base": "lora_gen.adapter.base_model",
    "save_adapter": "lora_gen.adapter.io",
    "score_adapter": "lora_gen.retrieval.predict",
}


def __getattr__(name: str) -> object:
    """The public name, imported from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted({*globals(), *__all__})
