"""What a load measurement stands on: an app of its own, and an adapter to upload."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
A_PICKLE = b"\x80\x04}\x94."
NOT_A_NUMBER = bytes.fromhex("0000c07f")
UPLOAD_RANK = 128
"""Of the uploaded adapter: about 5 MB for tiny_lm."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """An app that is up and warm."""

    url: str
    folder: Path
    """Where its temporary files lie."""

    generation: float
    """Seconds that one takes while nobody else asks, as the app itself says at its start."""


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """An app of its own that is warm, with its temporary files in `folder`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "--port", "0", "--rate", "1000000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        assert process.stdout is not None  # it is a pipe
        url, ready = process.stdout.readline().split()[3], ""
        while not ready.startswith("ready: "):
            ready = process.stdout.readline()
            if process.poll() is not None:
                raise SystemExit("the app ended before it was warm")
        (seconds,) = re.findall(r"takes ([\d.]+) s", ready)
        yield Served(url=url, folder=folder, generation=float(seconds))
    finally:
        process.terminate()
        process.wait()


def large_adapter() -> bytes:
    """An adapter for tiny_lm of about 5 MB, zipped as a visitor would."""
    return zipped(large_files())


def zipped(files: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of some files, whatever they are called."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def bad_uploads() -> list[bytes]:
    """Archives that must be refused: small lies, bombs, and 5 MB whose very last value is wrong."""
    good = large_files()
    config, weights = good["adapter_config.json"], good["adapter_model.safetensors"]
    changed = {
        "not a number at the end": {"adapter_model.safetensors": weights[:-4] + NOT_A_NUMBER},
        "cut short": {"adapter_model.safetensors": weights[:-1]},
        "something appended": {"adapter_model.safetensors": weights + b"PK"},
        "a header of a gigabyte": {"adapter_model.safetensors": (10**9).to_bytes(8, "little")},
        "a pickle": {"adapter_model.safetensors": A_PICKLE},
        "a deep config": {"adapter_config.json": b"[" * 100_000},
        "a rank of a billion": {"adapter_config.json": config.replace(b"128", b"1000000000")},
        "a file outside": {"../adapter_config.json": config},
    }
    made = [zipped({**good, **change}) for change in changed.values()]
    bomb = {**good, "README.md": bytes(100_000_000)}
    return [*made, zipped(bomb, compression=zipfile.ZIP_DEFLATED), b"PK\x03\x04 not an archive"]


def large_files() -> dict[str, bytes]:
    """Name -> content of the files of an adapter for tiny_lm of about 5 MB."""
    import torch

    from lora_gen.adapter.adapter import Adapter, LoraPair
    from lora_gen.adapter.base_model import BaseModelSpec, select_targets
    from lora_gen.adapter.io import save_adapter

    spec, pairs = BaseModelSpec.from_config("tiny_lm"), {}
    for name in select_targets(spec, "all-linear"):
        (_, fan_in), (out, _) = spec.modules[name].factor_shapes(UPLOAD_RANK)
        a, b = torch.randn(UPLOAD_RANK, fan_in), torch.randn(out, UPLOAD_RANK)
        pairs[name] = LoraPair(lora_a=1e-2 * a, lora_b=1e-2 * b)
    with TemporaryDirectory() as folder:
        adapter = Adapter(pairs=pairs, base=spec.id, task_type=spec.task_type)
        saved = save_adapter(adapter, Path(folder) / "adapter", base=spec, exact=True)
        return {file.name: file.read_bytes() for file in sorted(saved.iterdir())}
