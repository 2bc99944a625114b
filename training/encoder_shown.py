"""What tasks are to a base that is shown solved examples of them, computed once and kept."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import ConfigError
from lora_gen.files import atomic_write_bytes
from lora_gen.retrieval.shown import shown_states
from training.behavior_data import read_behaviors
from training.encoder_config import EncoderTaskConfig


def task_states(config: EncoderTaskConfig) -> dict[str, Tensor]:
    """Task -> its states (S,) float32; nothing where `config.behaviors` is empty.

    Raises:
        ConfigError: The file of tasks or that of the states is damaged.
        BaseModelError: There is no causal language model.
    """
    if not config.behaviors:
        return {}
    known = {
        record.task: record.examples
        for record in read_behaviors(Path(config.behaviors))
        if record.split in ("practice", *config.splits)
    }
    key = json.dumps([config.base, sorted(known.items())])
    name = f"shown-{blake2b(key.encode(), digest_size=8).hexdigest()}.safetensors"
    path = Path(config.cache) / name
    if not path.is_file():
        model, chat = load_causal_lm(config.base)
        found = shown_states(model, chat, known)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"states": found.half().contiguous()}
        atomic_write_bytes(path, save(tensors, metadata={"tasks": json.dumps(list(known))}))
    try:
        with safe_open(path, framework="pt") as stream:
            tasks = json.loads(stream.metadata()["tasks"])
            rows = stream.get_tensor("states").float()
        return dict(zip(tasks, rows, strict=True))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ConfigError(
            f"`{path}` holds no states of tasks ({error}). Delete it, and it is made again."
        ) from error
