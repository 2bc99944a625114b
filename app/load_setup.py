"""What a load measurement stands on: an app of its own, and an adapter to upload."""

from __future__ import annotations

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
UPLOAD_RANK = 128
"""Of the uploaded adapter: about 5 MB for tiny_lm."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """An app that is up and warm."""

    url: str
    folder: Path
    """Where its temporary files lie."""

    queue_bound: float
    """Seconds that the longest line it lets form takes, as the app itself says at its start."""


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
        seconds, room = map(float, re.findall(r"takes ([\d.]+) s, so (\d+)", ready)[0])
        yield Served(url=url, folder=folder, queue_bound=seconds * room)
    finally:
        process.terminate()
        process.wait()


def large_adapter() -> bytes:
    """An adapter for tiny_lm of about 5 MB, zipped as a visitor would."""
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
        packed = Path(folder) / "adapter.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for file in sorted(saved.iterdir()):
                archive.write(file, file.name)
        return packed.read_bytes()
