"""Files from visitors: copied into a folder of the session under names that we know, then read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.archive import read_archive
from lora_gen.adapter.io import PICKLE_SUFFIXES, load_adapter
from lora_gen.adapter.peft_config import CONFIG_NAME, WEIGHTS_NAME
from lora_gen.cli.rows import read_examples, read_prompts
from lora_gen.errors import (
    AdapterFormatError,
    AdapterLimitError,
    ConditionError,
    LoraGenError,
    UnsafeFileError,
)
from lora_gen.limits import DEFAULT_LIMITS

MAX_UPLOAD_BYTES = 512_000_000
UPLOAD_LIMITS = replace(DEFAULT_LIMITS, file_bytes=MAX_UPLOAD_BYTES, archive_bytes=MAX_UPLOAD_BYTES)
_NAMES = (CONFIG_NAME, WEIGHTS_NAME, "README.md", "pytorch_lora_weights.safetensors")


def receive_adapter(files: Sequence[str], into: Path) -> tuple[Path, Adapter]:
    """The adapter in a zip file, in the files of one folder, or in one .safetensors file.

    Args:
        files: Where the upload lies.
        into: Folder, not yet there, that it is copied to.

    Returns:
        (what the copy is read from, its adapter).

    Raises:
        LoraGenError: It is no adapter; `into` is gone again. The sentence names only what the
            visitor sent.
    """
    try:
        source = _copy([Path(file) for file in files], into)
        return source, load_adapter(source, limits=UPLOAD_LIMITS)
    except LoraGenError as error:
        shutil.rmtree(into, ignore_errors=True)
        places = [str(into), *(str(Path(file)) for file in files)]
        raise type(error)(without_places(str(error), places)) from error


def read_rows(file: str) -> tuple[list[str], list[tuple[str, str]]]:
    """(unlabeled inputs, input-output pairs) of an uploaded .txt, .csv, .tsv or .jsonl file.

    Raises:
        ConditionError: It is none of these, or a row is unusable.
    """
    path = Path(file)
    try:
        if path.suffix == ".txt":
            return read_prompts(path), []
        if path.suffix == ".jsonl" and b'"output"' not in _start(path):
            return read_prompts(path), []
        return [], read_examples(path)
    except ConditionError as error:
        raise ConditionError(without_places(str(error), [file])) from error


def without_places(sentence: str, places: Sequence[str]) -> str:
    """A sentence in which our own folders do not show, only the names of the files."""
    for place in sorted(places, key=len, reverse=True):
        sentence = sentence.replace(place, Path(place).name)
    return sentence


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(65_536)


def _copy(files: list[Path], into: Path) -> Path:
    if not files:
        raise AdapterFormatError("Nothing was uploaded. Choose a zip file or an adapter's files.")
    special = next((file.name for file in files if not file.is_file()), None)
    if special is not None:
        raise UnsafeFileError(f"`{special[:80]}` is not a regular file. Upload the file itself.")
    size = sum(file.stat().st_size for file in files)
    if size > MAX_UPLOAD_BYTES:
        raise AdapterLimitError(
            f"The upload has {size:,} bytes, but at most {MAX_UPLOAD_BYTES:,} are allowed. "
            "Use `lora-gen inspect` for larger adapters."
        )
    if len(files) == 1 and files[0].suffix.lower() == ".zip":
        return read_archive(files[0], into, limits=UPLOAD_LIMITS)
    into.mkdir(mode=0o700)
    if len(files) == 1 and files[0].suffix == ".safetensors" and files[0].name != WEIGHTS_NAME:
        return Path(shutil.copyfile(files[0], into / "upload.safetensors"))
    pickle = next((file.name for file in files if file.suffix in PICKLE_SUFFIXES), None)
    if pickle is not None:
        raise UnsafeFileError(
            f"`{pickle[:80]}` may be a pickle, which is never opened. Convert it to safetensors."
        )
    odd = [file.name for file in files if file.name not in _NAMES]
    if odd or len({file.name for file in files}) != len(files):
        raise AdapterFormatError(
            f"`{(odd or [files[0].name])[0][:80]}` is not a file of an adapter, or comes twice. "
            f"Upload one zip file, or `{CONFIG_NAME}` and `{WEIGHTS_NAME}` together."
        )
    for file in files:
        shutil.copyfile(file, into / file.name)
    return into
