"""A PEFT folder whose factors arrive piece by piece, so that no adapter is too large to write."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from lora_gen.adapter.base_model import BaseModelSpec, ModuleShape, shortest_suffixes
from lora_gen.adapter.peft_config import CONFIG_NAME, WEIGHTS_NAME, build_config
from lora_gen.adapter.peft_format import json_text, require_single_model
from lora_gen.adapter.peft_keys import PREFIX
from lora_gen.adapter.profile import portable_rank
from lora_gen.errors import AdapterFormatError, AdapterValueError
from lora_gen.files import publish_folder, read_safetensors_header
from lora_gen.safetensors_stream import TensorFile
from lora_gen.strict_json import Limits

_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_OURS = Limits(file_bytes=2**50, header_bytes=2**27, tensors=10**6)


class FactorFile:
    """Takes rows of A and columns of B, in any order, and writes them where PEFT wants them.

    A column of B lies scattered in its tensor, so columns wait in a scratch file, and each module's
    are turned around at the end: memory holds one module at most.
    """

    def __init__(
        self, folder: Path, modules: Mapping[str, ModuleShape], rank: int, dtype: torch.dtype
    ) -> None:
        self._modules, self._rank, self._dtype = modules, rank, dtype
        self._target = TensorFile(
            folder / WEIGHTS_NAME,
            _shapes(modules, rank),
            dtype=_DTYPES[dtype],
            metadata={"format": "pt"},
        )
        self._scratch_path = folder / "columns.safetensors"
        try:
            self._scratch = TensorFile(
                self._scratch_path,
                {name: (rank, shape.out_features) for name, shape in modules.items()},
                dtype=_DTYPES[dtype],
            )
        except BaseException:
            self._target.__exit__(None, None, None)
            raise

    def __enter__(self) -> FactorFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._turn_columns()
        finally:
            for file in (self._target, self._scratch):
                file.__exit__(kind, error, trace)
            self._scratch_path.unlink()

    def add(self, module: str, side: str, component: int, *, start: int, values: Tensor) -> None:
        """Take values of row `component` of A, or of that column of B, from `start` on.

        Args:
            module: Module path.
            side: `A` or `B`.
            component: Which of the adapter's `rank` directions.
            start: Place of the first value in its row or column.
            values: One-dimensional.

        Raises:
            AdapterValueError: A value is not finite in the file's dtype.
        """
        cast = values.to(self._dtype)
        if not bool(torch.isfinite(cast).all()):
            raise AdapterValueError(
                f"`{module}.lora_{side}` has values that are NaN, infinite or beyond {self._dtype}."
                " Sample again with other steps or guidance."
            )
        shape = self._modules[module]
        if side == "B":
            self._scratch.write(module, component * shape.out_features + start, cast)
            return
        width = math.prod(shape.factor_shapes(1)[0])
        self._target.write(f"{PREFIX}{module}.lora_A.weight", component * width + start, cast)

    def _turn_columns(self) -> None:
        for name, shape in self._modules.items():
            columns_RO = self._scratch.read(name, (self._rank, shape.out_features), self._dtype)
            self._target.write(f"{PREFIX}{name}.lora_B.weight", 0, columns_RO.mT)


@contextmanager
def stream_peft(
    folder: Path,
    base: BaseModelSpec,
    modules: Sequence[str],
    *,
    rank: int,
    dtype: torch.dtype = torch.bfloat16,
    exact: bool = False,
    texts: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Iterator[FactorFile]:
    """A PEFT folder to fill; leaving the block without error publishes it.

    Args:
        folder: Output folder.
        base: The base; its id and task type go into the config.
        modules: Module paths that the adapter has.
        rank: LoRA rank; with `exact` off it is zero-padded to the next portable one.
        dtype: Dtype of the factors.
        exact: Keep the rank.
        texts: Further files of the folder, such as the card; name -> content.
        overwrite: Replace an adapter folder that exists.

    Yields:
        Where the factors go; `lora_alpha` equals the rank, so they are the delta weight's own.

    Raises:
        AdapterMismatchError: A pipeline of several models, or a rank beyond the portable ones.
        AdapterValueError: A value is not finite.
        OutputPathError: The output exists, or is not ours to replace.
        StorageError: The disk refused.
    """
    kept = rank if exact else portable_rank(rank)
    shapes = {name: base.modules[name] for name in sorted(modules)}
    require_single_model(next(iter(shapes)), base)
    config = build_config(
        {name: (kept, float(kept)) for name in shapes},
        target_modules=shortest_suffixes(list(shapes), base.modules),
        fan_in_fan_out={shape.type for shape in shapes.values()} == {"conv1d"},
        base=base.id,
        revision=None,
        task_type=base.task_type,
    )
    with publish_folder(folder, overwrite) as temp:
        with FactorFile(temp, shapes, kept, dtype) as file:
            yield file
        (temp / CONFIG_NAME).write_text(json_text(config), encoding="utf-8")
        for name, text in (texts or {}).items():
            (temp / name).write_text(text, encoding="utf-8")
        _require_header(temp / WEIGHTS_NAME, shapes, kept)


def _shapes(modules: Mapping[str, ModuleShape], rank: int) -> dict[str, tuple[int, ...]]:
    """The file's tensors."""
    return {
        f"{PREFIX}{name}.lora_{side}.weight": size
        for name, shape in modules.items()
        for side, size in zip("AB", shape.factor_shapes(rank), strict=True)
    }


def _require_header(path: Path, modules: Mapping[str, ModuleShape], rank: int) -> None:
    """What was written is read back, as far as a file without its values can tell."""
    header = read_safetensors_header(path, _OURS)
    if {name: info.shape for name, info in header.tensors.items()} != _shapes(modules, rank):
        raise AdapterFormatError(f"`{path.name}` was not written as planned. Write it again.")
