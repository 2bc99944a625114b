"""The three readers that coverage-guided fuzzing aims at: bytes in, nothing but our errors out.

What a reader accepts, the library behind it must read as the same thing: a difference between
two parsers is where attacks live.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from lora_gen.adapter.archive import read_archive
from lora_gen.adapter.peft_config import parse_config
from lora_gen.errors import LoraGenError
from lora_gen.limits import DEFAULT_LIMITS
from lora_gen.safetensors_header import read_safetensors_header
from lora_gen.strict_json import parse_json, read_json
from tests.corpus.build import CONFIG, WEIGHTS
from tests.corpus.mutations import ZIP, samples
from tests.corpus.words import judge_sentence

FOLDER = Path(
    tempfile.mkdtemp(prefix="corpus-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
)


class Disagreement(AssertionError):
    """A reader of ours accepted what another one reads otherwise, or refused without a sentence."""


def header(data: bytes) -> None:
    """A weight file, its header only."""
    from safetensors import SafetensorError, safe_open

    path = FOLDER / WEIGHTS
    path.write_bytes(data)
    found = read_safetensors_header(path)
    try:
        with safe_open(path, "np") as file:
            names, metadata = set(file.keys()), file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise Disagreement(f"safetensors refuses what we accept: {error}") from error
    if shapes != {name: info.shape for name, info in found.tensors.items()}:
        raise Disagreement(f"safetensors sees {shapes}")
    if metadata != found.metadata:
        raise Disagreement(f"safetensors sees the metadata {metadata}")


def config(data: bytes) -> None:
    """An `adapter_config.json`."""
    fields = parse_json(data, subject=f"`{CONFIG}`")
    if json.loads(data) != fields:
        raise Disagreement("json sees other fields")
    path = FOLDER / CONFIG
    path.write_bytes(data)
    parse_config(read_json(path), DEFAULT_LIMITS)


def archive(data: bytes) -> None:
    """An uploaded zip file."""
    path, into = FOLDER / ZIP, FOLDER / "into"
    path.write_bytes(data)
    try:
        folder = read_archive(path, into)
        _compare(path, folder)
    finally:
        left = into.exists()
        shutil.rmtree(into, ignore_errors=True)
    if not left:
        raise Disagreement("what was unpacked is not there")


def _compare(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as opened:
        members = {Path(name).name: name for name in opened.namelist()}
        for file in folder.iterdir():
            if opened.read(members[file.name]) != file.read_bytes():
                raise Disagreement(f"zipfile reads another `{file.name}`")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "header": header,
    "config": config,
    "archive": archive,
}

SEEDS: dict[str, list[bytes]] = {
    "header": [data for s in samples() for name, data in s.files.items() if name.endswith("rs")],
    "config": [s.files[CONFIG] for s in samples() if CONFIG in s.files],
    "archive": [s.files[ZIP] for s in samples() if ZIP in s.files],
}


def run(name: str, data: bytes) -> str:
    """The code that a target answers with, or `OK`.

    Raises:
        Disagreement: Parsers differ, or the error is no plain sentence.
    """
    try:
        TARGETS[name](data)
    except LoraGenError as error:
        wrong = judge_sentence(str(error))
        if wrong:
            raise Disagreement("; ".join(wrong)) from error
        left = [path.name for path in FOLDER.iterdir() if path.is_dir()]
        if left:
            raise Disagreement(f"{left} was left") from error
        return error.code
    return "OK"
