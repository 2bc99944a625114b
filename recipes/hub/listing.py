"""Which adapters of a base the hub has, pinned to the commit they have today.

python -m recipes.hub.listing recipes/qwen2.5/zoo.json --out build/qwen2.5/listing.json
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lora_gen.errors import ConfigError
from lora_gen.files import atomic_write_json
from lora_gen.strict_json import read_json

_EXPAND = ["cardData", "gated", "safetensors", "sha", "siblings", "tags"]


@dataclass(frozen=True, kw_only=True)
class ZooSource:
    """What a recipe's `zoo.json` asks of the hub."""

    base: str
    """Hub id of the base."""
    licenses: tuple[str, ...]
    """Licenses of adapters that may be learned from."""
    authors: tuple[str, ...] = ()
    """Only these owners; none means all."""
    limit: int = 1000
    """Most-downloaded first, at most so many."""
    targets: tuple[str, ...] = ()
    """Suffixes of the modules that the generator makes; none means every linear module."""
    max_rank: int = 16
    """Adapters of a higher rank are left out."""
    dataset: str = ""
    """Data set of an adapter's task, `{name}` standing for the adapter's own name."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One adapter of the hub."""

    repo: str
    revision: str
    license: str


def read_source(path: Path) -> ZooSource:
    """The source that a recipe's `zoo.json` describes.

    Raises:
        ConfigError: It has an unknown key, or lacks `base` or `licenses`.
    """
    data = read_json(path, error=ConfigError)
    known = {field.name for field in fields(ZooSource)}
    if not {"base", "licenses"} <= set(data) <= known:
        raise ConfigError(f"`{path}` must have `base` and `licenses`, and of {sorted(known)} only.")
    lists = {key: tuple(data[key]) for key in ("licenses", "authors", "targets") if key in data}
    return ZooSource(**{**data, **lists})


def list_adapters(api: Any, source: ZooSource) -> tuple[list[Listed], dict[str, str]]:
    """Adapters of the base that may be learned from, and why each of the others may not.

    Args:
        api: A `huggingface_hub.HfApi`.
        source: Base and filters.
    """
    chosen: list[Listed] = []
    refused: dict[str, str] = {}
    for author in source.authors or (None,):
        found: Iterable[Any] = api.list_models(
            filter=[f"base_model:adapter:{source.base}", "lora"],
            author=author,
            sort="downloads",
            limit=source.limit,
            expand=_EXPAND,
        )
        for model in found:
            reason = _refusal(model, source)
            if reason:
                refused[model.id] = reason
            else:
                license = _license(model)
                chosen.append(Listed(repo=model.id, revision=model.sha, license=license))
    return chosen, refused


def _refusal(model: Any, source: ZooSource) -> str | None:
    names = {sibling.rfilename for sibling in model.siblings or []}
    if model.gated:
        return "it is gated"
    if _license(model) not in source.licenses:
        return f"its license is {_license(model) or 'not named'}"
    if not any(name.endswith(".safetensors") for name in names):
        return "it has no safetensors file"
    return None


def _license(model: Any) -> str:
    data = model.card_data or {}
    value = data.get("license", "")
    return value if isinstance(value, str) else ""


def main() -> None:
    """Ask the hub and write the pinned listing."""
    from huggingface_hub import HfApi

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    chosen, refused = list_adapters(HfApi(), read_source(args.source))
    atomic_write_json(args.out, {"adapters": [asdict(x) for x in chosen], "refused": refused})
    print(f"{len(chosen)} adapters listed, {len(refused)} left out; reasons are in {args.out}")


if __name__ == "__main__":
    main()
