"""F06: a zoo folder copied from elsewhere, damaged or made to harm whoever reads it."""

from __future__ import annotations

import os
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path

from lora_gen.adapter.io import load_adapter
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import CATALOG_NAME, Zoo
from tests.corpus.build import CONFIG, WEIGHTS, adapter, config
from tests.corpus.case import INDEX, OK, STORE, add
from tests.corpus.weights import Canary


def zoo(damage: Callable[[Path, Path], object]) -> Callable[[Path], Path]:
    """A zoo of one adapter after `damage` was done to (zoo folder, adapter folder)."""

    def build(folder: Path) -> Path:
        source = adapter(folder / "source")
        with Zoo.open(folder / "zoo", create=True) as made:
            entry = made.add(load_adapter(source), EntryInfo(task="x"))
            made.checkpoint()
            place = made.folders.path_of(entry.id)
        damage(folder / "zoo", place)
        return folder / "zoo"

    return build


def row(statement: str) -> Callable[[Path, Path], object]:
    def damage(folder: Path, place: Path) -> None:
        connection = sqlite3.connect(folder / CATALOG_NAME)
        with connection:
            connection.execute(statement)
        connection.close()

    return damage


def written(name: str, content: bytes) -> Callable[[Path, Path], object]:
    return lambda folder, place: (place / name).write_bytes(content)


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def pipe(folder: Path, place: Path) -> None:
    (place / WEIGHTS).unlink()
    os.mkfifo(place / WEIGHTS)


def as_pickle(folder: Path, place: Path) -> None:
    (place / WEIGHTS).unlink()
    (place / "adapter_model.bin").write_bytes(pickle.dumps(Canary()))


S = "STORE"
CASES: tuple[tuple[str, Callable[[Path, Path], object], str], ...] = (
    ("empty-catalog", lambda z, p: (z / CATALOG_NAME).write_bytes(b""), "catalog|not a zoo"),
    ("catalog-of-zeros", lambda z, p: (z / CATALOG_NAME).write_bytes(bytes(8192)), "catalog"),
    ("catalog-is-text", lambda z, p: (z / CATALOG_NAME).write_text("x" * 5000), "catalog"),
    ("catalog-header-flipped", lambda z, p: flipped(z / CATALOG_NAME, 0), "catalog"),
    ("newer-schema", row("PRAGMA user_version = 99"), "schema 99"),
    (
        "id-leaves-the-folder",
        row("UPDATE entries SET id = '../../../../source'"),
        "is not an id|damaged row",
    ),
    ("row-is-no-json", row("UPDATE entries SET descriptions = '{'"), "damaged row"),
    ("row-is-deep", row("UPDATE entries SET extra = '" + "[" * 100_000 + "'"), "damaged row"),
    ("split-unknown", row("UPDATE entries SET split = 'everything'"), ""),
    ("base-differs", row("UPDATE entries SET base = 'other/base'"), "its folder says|damaged row"),
    ("weights-flipped", lambda z, p: flipped(p / WEIGHTS, -1), "damaged in the zoo"),
    ("weights-empty", written(WEIGHTS, b""), "damaged in the zoo"),
    ("config-says-more", written(CONFIG, b"[" * 100_000), "damaged in the zoo"),
    (
        "config-imports",
        written(CONFIG, str(config(megatron_core="planted")).replace("'", '"').encode()),
        "damaged",
    ),
    ("weights-are-a-pipe", pipe, "damaged in the zoo"),
    ("weights-are-a-pickle", as_pickle, "damaged in the zoo"),
)
add("F06", "whole", zoo(lambda z, p: None), OK, entrances=STORE)
for name, damage, sentence in CASES:
    add("F06", name, zoo(damage), S, sentence, entrances=STORE)


def beside(plant: Callable[[Path, str], object]) -> Callable[[Path], Path]:
    """A whole zoo, and an index folder that `plant` (index, name of its table) has been in."""

    def build(folder: Path) -> Path:
        from lora_gen.retrieval.vectors import Vectorizer

        whole = zoo(lambda z, p: None)(folder)
        (folder / "index").mkdir()
        plant(folder / "index", f"vectors_{Vectorizer().fingerprint}.lance")
        return whole

    return build


def table_of_garbage(index: Path, name: str) -> None:
    for part in ("_versions/1.manifest", "data/x.lance", "_transactions/0.txn"):
        path = index / name / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x80\x04" + bytes(200))


PLANTED: tuple[tuple[str, Callable[[Path, str], object]], ...] = (
    ("state-deep", lambda index, name: (index / "state.json").write_text("[" * 100_000)),
    ("state-lies", lambda index, name: (index / "state.json").write_text('{"generation": 1}')),
    ("table-is-empty", lambda index, name: (index / name).mkdir()),
    ("table-is-garbage", table_of_garbage),
    ("table-is-a-file", lambda index, name: (index / name).write_bytes(bytes(100))),
    ("table-is-a-link", lambda index, name: os.symlink("/etc", index / name)),
    ("pickle", lambda index, name: (index / "vectors.pkl").write_bytes(pickle.dumps(Canary()))),
    ("lock-of-nobody", lambda index, name: (index / ".lock").write_text("999999999")),
)
for name, plant in PLANTED:
    add("F06", f"index-{name}", beside(plant), OK, entrances=INDEX)
