"""A hub cache on disk, filled by us: the layout that `snapshot_download` finds offline."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from generator_factories import byte_base
from huggingface_hub import constants

from recipes.hub.listing import Listed


class HubCache:
    """Repositories under `models--owner--name/snapshots/<commit>`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def repo(self, name: str, kind: str = "model") -> tuple[Path, str]:
        """The snapshot folder of a new repository, and its commit."""
        commit = hashlib.sha1(name.encode()).hexdigest()
        root = self.folder / f"{kind}s--{name.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(commit)
        (root / "snapshots" / commit).mkdir(parents=True)
        return root / "snapshots" / commit, commit

    def dataset(self, name: str, pairs: Any) -> None:
        folder, _ = self.repo(name, "dataset")
        rows = (json.dumps({"input": a, "output": [b]}) + "\n" for a, b in pairs)
        (folder / "train.jsonl").write_text("".join(rows))

    def listed(self, name: str, license: str = "mit") -> tuple[Path, Listed]:
        folder, commit = self.repo(name)
        return folder, Listed(repo=name, revision=commit, license=license)


class Sibling:
    def __init__(self, name: str) -> None:
        self.rfilename = name


class HubModel:
    """What `HfApi.list_models` gives for one repository."""

    def __init__(self, id: str, license: Any = "mit", gated: Any = False, file: str = "") -> None:
        self.id, self.gated, self.sha = id, gated, hashlib.sha1(id.encode()).hexdigest()
        self.card_data = {"license": license} if license else None
        self.siblings = [Sibling(file or "adapter_model.safetensors")]


class FakeApi:
    def __init__(self, models: list[HubModel]) -> None:
        self.models, self.asked = models, []

    def list_models(self, **options: Any) -> list[HubModel]:
        self.asked.append(options)
        return self.models


def stand_in(folder: Path, recipe: str) -> Path:
    """A random base of a recipe's own architecture at small width, with a tokenizer."""
    kind = {"qwen2.5": "Qwen2", "mistral-lots-of-loras": "Mistral"}[recipe]
    sizes = json.loads((byte_base(folder) / "config.json").read_text())
    drop = ("architectures", "model_type", "transformers_version", "dtype")
    kept = {key: value for key, value in sizes.items() if key not in drop}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**kept)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    model.generation_config.pad_token_id = config.pad_token_id
    model.save_pretrained(folder)
    return folder
