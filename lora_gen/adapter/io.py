"""Adapters in and out: recognize a file or folder, and call exactly one format's door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.peft_config import CONFIG_NAME, WEIGHTS_NAME
from lora_gen.adapter.peft_format import read_peft, write_peft
from lora_gen.errors import AdapterFormatError, AdapterMismatchError, UnsafeFileError
from lora_gen.memory import memory_for
from lora_gen.safetensors_header import read_safetensors_header
from lora_gen.strict_json import DEFAULT_LIMITS, Limits, printable

AdapterFormat = Literal["peft", "diffusers", "kohya"]

DIFFUSERS_NAME = "pytorch_lora_weights.safetensors"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@memory_for("load_adapter")
def load_adapter(
    path: str | Path,
    *,
    base: BaseModelSpec | None = None,
    allow_embeddings: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Adapter:
    """The adapter in a PEFT folder, a Diffusers folder or file, or a kohya file.

    Args:
        path: Folder or `.safetensors` file.
        base: When given, modules and shapes are checked against it; kohya keys need it.
        allow_embeddings: Accept LoRA on `nn.Embedding` (PEFT folders).
        limits: Bounds on what is read.

    Raises:
        LoraGenError: One of the adapter errors; the sentence names the file, field or tensor and
            the next step.
    """
    path = Path(path)
    kind, source = recognize(path, limits)
    if kind == "peft":
        return read_peft(source, base=base, allow_embeddings=allow_embeddings, limits=limits)
    if kind == "diffusers":
        from lora_gen.adapter.diffusers_format import read_diffusers

        adapter = read_diffusers(source, limits, base=base)
    else:
        from lora_gen.adapter.kohya_format import read_kohya

        adapter = read_kohya(source, base, limits=limits)
    return adapter if base is None else replace(adapter, base=adapter.base or base.id)


def save_adapter(
    adapter: Adapter,
    folder: str | Path,
    *,
    format: Literal["peft", "diffusers"] = "peft",
    base: BaseModelSpec | None = None,
    exact: bool = False,
    overwrite: bool = False,
    card: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write an adapter folder durably, verified by reading it back.

    Args:
        adapter: What to write.
        folder: Output folder.
        format: `peft`, or `diffusers` for `pytorch_lora_weights.safetensors`.
        base: Spec of the base, for checks and for short `target_modules`.
        exact: Keep ranks and scalings as they are, instead of the portable profile.
        overwrite: Replace an adapter folder that exists.
        card: Text of `README.md`.
        provenance: Content of `lora_gen.json`, how the adapter came to be.

    Returns:
        The folder.

    Raises:
        LoraGenError: The adapter cannot be written in this format, the output exists, or the disk
            refused.
    """
    folder = Path(folder)
    options: dict[str, Any] = {
        "exact": exact,
        "overwrite": overwrite,
        "card": card,
        "provenance": provenance,
    }
    if format == "peft":
        write_peft(adapter, folder, base=base, **options)
    elif format == "diffusers":
        from lora_gen.adapter.diffusers_format import write_diffusers

        write_diffusers(adapter, folder, base=base, **options)
    else:
        raise AdapterFormatError(
            f"`{format}` is not a format that is written; choose `peft` or `diffusers`."
        )
    return folder


def recognize(path: Path, limits: Limits = DEFAULT_LIMITS) -> tuple[AdapterFormat, Path]:
    """The format of a path, and what its door reads: the PEFT folder or the weight file.

    Raises:
        AdapterFormatError: Nothing is there, or it is no known format.
        AdapterMismatchError: A folder has two candidates.
        UnsafeFileError: There are only pickles.
    """
    if not _exists(path):
        raise AdapterFormatError(
            f"{printable(str(path))} does not exist. Pass an adapter folder or a .safetensors file."
        )
    if path.is_dir():
        if (path / CONFIG_NAME).exists() or (path / WEIGHTS_NAME).exists():
            return "peft", path
        return _recognize_folder(path, limits)
    if path.suffix in PICKLE_SUFFIXES:
        raise UnsafeFileError(
            f"`{path.name}` may be a pickle, which is never opened. Convert it to safetensors."
        )
    if path.name == WEIGHTS_NAME and (path.parent / CONFIG_NAME).exists():
        return "peft", path.parent
    return _recognize_file(path, limits), path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # too long a name, or a folder that may not be entered
        raise AdapterFormatError(
            f"{printable(str(path))} cannot be read ({error.strerror}). Pass another path."
        ) from error


def _recognize_folder(folder: Path, limits: Limits) -> tuple[AdapterFormat, Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix == ".safetensors")
    if len(files) == 1:
        return _recognize_file(files[0], limits), files[0]
    if files:
        names = ", ".join(f"`{file.name}`" for file in files[:4])
        raise AdapterMismatchError(
            f"`{folder}` has {len(files)} weight files ({names}). Pass the one you mean."
        )
    _require_no_pickle(folder)
    raise AdapterFormatError(
        f"`{folder}` has no `{CONFIG_NAME}` and no .safetensors file. Pass an adapter folder."
    )


def _require_no_pickle(folder: Path) -> None:
    """Check that a folder without safetensors does not hold a pickle instead.

    Raises:
        UnsafeFileError: It does.
    """
    pickle = next(
        (file for file in sorted(folder.iterdir()) if file.suffix in PICKLE_SUFFIXES), None
    )
    if pickle is not None:
        raise UnsafeFileError(
            f"`{folder}` has only `{pickle.name}`, which may be a pickle and is never opened. "
            "Convert it to safetensors."
        )


def _recognize_file(path: Path, limits: Limits) -> AdapterFormat:
    from lora_gen.adapter.diffusers_format import is_diffusers
    from lora_gen.adapter.kohya_format import is_kohya

    header = read_safetensors_header(path, limits)
    if is_kohya(header.tensors):
        return "kohya"
    if is_diffusers(header.tensors, header.metadata):
        return "diffusers"
    if any(".lora_A" in name for name in header.tensors):
        raise AdapterFormatError(
            f"`{path.name}` has PEFT keys, but no `{CONFIG_NAME}` beside it tells its scaling. "
            "Pass the whole folder."
        )
    raise AdapterFormatError(
        f"`{path.name}` has no keys of PEFT, Diffusers or kohya. It is not a LoRA file."
    )
