"""A zoo from a pinned listing: fetched, checked against the base, described, and reported on.

python -m recipes.hub.import_zoo recipes/qwen2.5/zoo.json build/qwen2.5/listing.json \
    --out build/qwen2.5

Writes `zoo/`, `behaviors.jsonl` and `import.json`. Adapters that the zoo holds are not fetched
again, so a run that stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.adapter.io import load_adapter
from lora_gen.conditioning.condition import MAX_BYTES
from lora_gen.errors import AdapterMismatchError, ConfigError, LoraGenError
from lora_gen.files import atomic_write_json, make_folder
from lora_gen.strict_json import read_json
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from recipes.hub.cards import describe, words_of
from recipes.hub.listing import Listed, ZooSource, read_source
from training.behavior_data import BehaviorRecord, write_behaviors

_ADAPTER_FILES = ["adapter_config.json", "*.safetensors", "README.md"]
_MAX_EXAMPLES = 96


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What became of each adapter of a listing."""

    added: tuple[str, ...]
    known: tuple[str, ...]
    refused: dict[str, str]
    """Hub id -> the sentence that says why."""


def read_listing(path: Path) -> list[Listed]:
    """The adapters of a pinned listing.

    Raises:
        ConfigError: It is no listing.
    """
    try:
        return [Listed(**row) for row in read_json(path, error=ConfigError)["adapters"]]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"`{path}` is no listing. Make it with recipes.hub.listing.") from error


def import_zoo(
    source: ZooSource, listing: Sequence[Listed], out: Path, *, base: str | None = None
) -> ImportReport:
    """Fill `out/zoo` and write `out/behaviors.jsonl` and `out/import.json`.

    Args:
        source: Base, licenses and data sets.
        listing: Pinned adapters.
        out: Folder of the recipe's products.
        base: Folder with the base's config, where it is not the hub's.

    Raises:
        LoraGenError: The base or the zoo cannot be had; an adapter that cannot be is reported.
    """
    spec = BaseModelSpec.from_config(base or source.base, id=source.base)
    make_folder(out)
    added, known, refused = [], [], {}
    with Zoo.open(out / "zoo", create=not (out / "zoo").exists()) as zoo:
        held = {entry.task for entry in zoo.entries()}
        for item in listing:
            if item.repo in held:
                known.append(item.repo)
                continue
            try:
                zoo.add(*_entry(item, source, spec))
                added.append(item.repo)
            except (LoraGenError, OSError, ValueError) as error:
                refused[item.repo] = str(error).splitlines()[0][:400]
        write_behaviors(out / "behaviors.jsonl", _behaviors(zoo))
    report = ImportReport(added=tuple(added), known=tuple(known), refused=refused)
    atomic_write_json(out / "import.json", {**vars(report)})
    return report


def _entry(item: Listed, source: ZooSource, spec: BaseModelSpec) -> tuple[Adapter, EntryInfo]:
    """One adapter, loaded and checked, and what its card and data set say."""
    if item.license not in source.licenses:
        raise ConfigError(f"`{item.repo}` has the license {item.license!r}, which is not allowed.")
    folder = _snapshot(item.repo, item.revision, _ADAPTER_FILES)
    adapter = _for_base(load_adapter(folder, base=spec), source.base)
    if spec.kind == "transformers":
        adapter = _completed(adapter, source, spec)
    card = folder / "README.md"
    text = describe(card.read_text("utf-8", "replace") if card.is_file() else "", item.repo)
    examples = tuple(_examples(source, item.repo))
    family = words_of(item.repo)
    info = EntryInfo(
        task=item.repo,
        family=family,
        split=_split(family),
        descriptions=tuple(dict.fromkeys((text, family))),
        prompts=tuple(question for question, _ in examples[:16]),
        examples=examples,
        extra={"repo": item.repo, "revision": item.revision, "license": item.license},
    )
    return adapter, info


def _for_base(adapter: Adapter, base: str) -> Adapter:
    """The adapter under the hub's name of its base; uploads often name a folder of their own.

    Raises:
        AdapterMismatchError: It names another base of the hub.
    """
    named = adapter.base or base
    is_hub_id = named.count("/") == 1 and not named.startswith((".", "/", "~"))
    if is_hub_id and named.lower() != base.lower():
        raise AdapterMismatchError(f"It names the base `{named}`, not `{base}`.")
    return replace(adapter, base=base)


def _completed(adapter: Adapter, source: ZooSource, spec: BaseModelSpec) -> Adapter:
    """The adapter with all modules of the source's targets; those it lacks get a zero delta.

    Raises:
        AdapterMismatchError: It adapts further modules, or its rank is too high.
    """
    targets = select_targets(spec, source.targets or "all-linear")
    odd = sorted(set(adapter.pairs) - set(targets))
    if odd:
        raise AdapterMismatchError(f"It adapts `{odd[0]}`, which is none of this zoo's targets.")
    if adapter.max_rank > source.max_rank:
        raise AdapterMismatchError(f"It has rank {adapter.max_rank}, above {source.max_rank}.")
    like = next(iter(adapter.pairs.values())).lora_a.new_zeros
    zeros = {
        name: LoraPair(lora_a=like(a), lora_b=like(b))
        for name in targets
        if name not in adapter.pairs
        for a, b in (spec.modules[name].factor_shapes(1),)
    }
    return replace(adapter, pairs={**adapter.pairs, **zeros})


def _split(family: str) -> Any:
    """One family in ten is held out, by the hash of its name."""
    held_out = blake2b(family.encode(), digest_size=2).digest()[0] < 26
    return "unseen_composition" if held_out else "seen"


def _examples(source: ZooSource, repo: str) -> Iterator[tuple[str, str]]:
    """Input-output pairs of the task's data set that a generator can read."""
    if not source.dataset:
        return
    name = source.dataset.format(name=repo.rsplit("/", 1)[-1])
    folder = _snapshot(name, None, ["*.jsonl", "*.parquet"], kind="dataset")
    count = 0
    for question, answer in _rows(folder):
        if (
            question.strip()
            and answer.strip()
            and len(f"{question}\t{answer}".encode()) <= MAX_BYTES
        ):
            yield question, answer
            count += 1
            if count == _MAX_EXAMPLES:
                return


def _rows(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            yield str(row["input"]), _answer(row["output"])
    for path in sorted(folder.rglob("*.parquet")):
        from pyarrow.parquet import read_table  # type: ignore[import-untyped]

        for row in read_table(path, columns=["input", "output"]).to_pylist():
            yield str(row["input"]), _answer(row["output"])


def _answer(value: object) -> str:
    """The first of several right answers."""
    return str(value[0] if isinstance(value, list) and value else value)


def _snapshot(repo: str, revision: str | None, patterns: list[str], *, kind: str = "model") -> Path:
    """Files of a repository at a commit; from the cache alone when the hub is switched off."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return Path(
        snapshot_download(
            repo,
            revision=revision,
            repo_type=kind,
            allow_patterns=patterns,
            local_files_only=HF_HUB_OFFLINE,
        )
    )


def _behaviors(zoo: Zoo) -> Iterator[BehaviorRecord]:
    """Tasks with examples, for behavior training; one a family is enough."""
    for entry in zoo.entries():
        if entry.examples:
            yield BehaviorRecord(
                task=entry.task,
                split=entry.split,
                descriptions=entry.descriptions,
                examples=entry.examples,
            )


def main() -> None:
    """Import what the listing names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("listing", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", help="folder with the base's config; default: the hub's")
    args = parser.parse_args()
    report = import_zoo(
        read_source(args.source), read_listing(args.listing), args.out, base=args.base
    )
    print(
        f"{len(report.added)} added, {len(report.known)} known, {len(report.refused)} refused; "
        f"reasons are in {args.out / 'import.json'}"
    )


if __name__ == "__main__":
    main()
