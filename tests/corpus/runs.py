"""F06, F12, U04 and W38 at the trainer's door: a run's folder, damaged or made to harm."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.corpus.build import raw
from tests.corpus.case import OK, RUN
from tests.corpus.case import add as register
from tests.corpus.weights import Canary

NEWEST = "checkpoint-2"


def toy_recipe(folder: Path, steps: int, **changes: Any) -> Any:
    """The toy run of so many steps, a checkpoint after each."""
    from training.recipe import parse_recipe

    return parse_recipe(
        {
            "output_dir": str(folder),
            "max_steps": steps,
            "batch_size": 2,
            "lr_scheduler": {"schedule": "constant"},
            "checkpoint": {"every": 1},
            "task": {"name": "toy", "num_examples": 8, "hidden_dim": 4},
            **changes,
        }
    )


def run(*damage: Callable[[Path], object], sealed: bool = False) -> Callable[[Path], Path]:
    """A run of two steps after `damage` was done to its newest checkpoint.

    Args:
        damage: Given the checkpoint's folder.
        sealed: Whether the manifest is made again, as somebody with a hand on the folder would.
    """

    def build(folder: Path) -> Path:
        from training.loop import train

        train(toy_recipe(folder / "run", 2))
        for change in damage:
            change(folder / "run" / NEWEST)
        if sealed:
            seal(folder / "run" / NEWEST)
        return folder / "run"

    return build


def seal(folder: Path) -> None:
    """Make the manifest that the files deserve."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("digest")
    manifest["files"] = {
        file.name: {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "size": file.stat().st_size,
        }
        for file in sorted(folder.iterdir())
        if file != path
    }
    text = json.dumps(manifest, sort_keys=True)
    manifest["digest"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(manifest))


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def scalars(**changes: Any) -> Callable[[Path], object]:
    """`state.json` with fields changed; `...` takes one out."""

    def damage(folder: Path) -> None:
        path = folder / "state.json"
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))

    return damage


def added(line: str) -> Callable[[Path], object]:
    """A recipe with one more line at its beginning."""

    def damage(folder: Path) -> None:
        path = folder / "recipe.yaml"
        path.write_text(f"{line}\n{path.read_text()}")

    return damage


def linked(folder: Path) -> None:
    target = folder.parent.parent / "elsewhere"
    shutil.move(folder, target)
    os.symlink(target, folder)


def listed_outside(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../../good/adapter_config.json"] = {"sha256": "0" * 64, "size": 1}
    path.write_text(json.dumps(manifest))


def emptied(folder: Path) -> None:
    for checkpoint in folder.parent.glob("checkpoint-*"):
        (checkpoint / "model.safetensors").write_bytes(b"")


def bomb() -> str:
    """A little YAML whose aliases, written out, are a billion dicts."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 31):
        lines.append(f"a{level}: &a{level} {{l: *a{level - 1}, r: *a{level - 1}}}")
    return "\n".join(lines)


def add(number: str, name: str, build: Callable[[Path], Path], codes: str, says: str = "") -> None:
    register(number, name, build, codes, says, entrances=RUN)


C = "CKPT"
HUGE = (86_000_000).to_bytes(8, "little") + b"{" + b" " * 1000
DEEP = b"[" * 100_000
add("F06", "run-whole", run(), OK)
for name in ("model", "ema", "optimizer"):
    file = f"{name}.safetensors"
    add("F06", f"run-{name}-empty", run(written(file, b"")), OK)
    add("F06", f"run-{name}-huge-header", run(written(file, HUGE), sealed=True), C, file)
    add("F06", f"run-{name}-pickle", run(written(file, pickle.dumps(Canary())), sealed=True), C)
    other = written(
        file, raw({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234")
    )
    add("F06", f"run-{name}-of-another-model", run(other, sealed=True), C)
add("F06", "run-state-deep", run(written("state.json", DEEP), sealed=True), C, "state.json")
add("F06", "run-state-not-json", run(written("state.json", b"\xff"), sealed=True), C, "state.json")
add("F06", "run-state-list", run(written("state.json", b"[]"), sealed=True), C, "state.json")
for field in ("step", "batches_seen", "identity", "processes"):
    for label, value in (("missing", ...), ("text", "x" * 50), ("null", None), ("nested", [[1]])):
        add("F06", f"run-{field}-{label}", run(scalars(**{field: value}), sealed=True), C)
add("F06", "run-step-negative", run(scalars(step=-5), sealed=True), C)
add("F06", "run-random-wrong", run(scalars(processes=[{"random": 3, "meter": 4}]), sealed=True), C)
add("F06", "run-manifest-deep", run(written("manifest.json", DEEP)), OK)
add("F06", "run-manifest-leaves", run(listed_outside), OK)
add("F06", "run-checkpoint-is-a-link", run(linked), OK)
add("F06", "run-pointer-leaves", run(lambda f: (f.parent / "LATEST").write_text("../../x\n")), OK)
add("F06", "run-all-damaged", run(emptied), OK)
add("F12", "run-without-random-state", run(scalars(processes=[{}]), sealed=True), C, "random")
add("F12", "run-of-other-code", run(scalars(identity={}), sealed=True), C, "another run")
add("U04", "recipe-alias-bomb", run(added(bomb()), sealed=True), C, "recipe.yaml")
add("U04", "recipe-tag-runs", run(added("a: !!python/object/apply:os.system [x]"), sealed=True), C)
add("U04", "recipe-not-text", run(written("recipe.yaml", b"\xff\xfe"), sealed=True), C, "recipe")
add("U04", "recipe-list", run(written("recipe.yaml", b"- 1\n"), sealed=True), C, "recipe")
add("U04", "recipe-deep", run(written("recipe.yaml", DEEP), sealed=True), C, "recipe")
add("U04", "recipe-long", run(added("#" * 2_000_000), sealed=True), C, "recipe")
wrong = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
shaped = written("optimizer.safetensors", raw({"exp_avg.0.weight": wrong}, b"123412341234"))
add("F06", "run-optimizer-of-another-shape", run(shaped, sealed=True), C, "exp_avg")
NESTED = b"- " * 90_000
add("U04", "recipe-nested", run(written("recipe.yaml", NESTED), sealed=True), C, "recipe")
add(
    "U04",
    "recipe-many-keys",
    run(added("\n".join(f"k{i}: 1" for i in range(10**5))), sealed=True),
    C,
    "recipe",
)
