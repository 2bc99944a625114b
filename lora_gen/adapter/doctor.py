"""What is wrong with an adapter on disk, in one report."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import module_norms
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.io import load_adapter, recognize
from lora_gen.adapter.peft_config import CONFIG_NAME, PEFT_VERSION, WEIGHTS_NAME, parse_config
from lora_gen.adapter.peft_keys import PREFIX
from lora_gen.adapter.portable import RuntimeVerdict, runtime_report
from lora_gen.errors import LoraGenError
from lora_gen.files import (
    DEFAULT_LIMITS,
    MANIFEST_NAME,
    Limits,
    read_json,
    read_safetensors_header,
    verify_manifest,
)
from lora_gen.strict_json import printable


@dataclass(frozen=True, kw_only=True)
class ModuleReport:
    """One module of an adapter."""

    module: str
    rank: int
    scaling: float
    norm: float
    """Frobenius norm of the delta weight."""


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """The findings on one adapter."""

    path: str
    format: str | None
    """`peft`, `diffusers` or `kohya`; None when it was not recognized."""

    base: str | None
    base_matches: bool | None
    """Whether every module exists in the base given; None when none was given."""

    norm: float
    """Frobenius norm of all delta weights together."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    modules: tuple[ModuleReport, ...]
    runtimes: tuple[RuntimeVerdict, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return {"ok": self.ok, **asdict(self)}


def doctor(
    path: str | Path, *, base: BaseModelSpec | None = None, limits: Limits = DEFAULT_LIMITS
) -> DoctorReport:
    """The report on an adapter folder or file; a broken adapter is reported, not raised.

    Args:
        path: Adapter folder, or weight file.
        base: Spec of the base it should fit.
        limits: Bounds on what is read.
    """
    path = Path(path)
    errors: list[str] = []
    warnings: list[str] = []
    kind, adapter, matches = None, None, None
    found: list[str] = []
    try:
        kind, source = recognize(path, limits)
        adapter, found = _read(path, base if kind == "peft" else None, limits)
        if kind == "peft":
            warnings += _file_warnings(source, limits)
    except LoraGenError as error:
        errors.append(str(error))
    if adapter is not None and base is not None:
        found = found if kind == "peft" else _base_errors(path, base, limits)
        matches = not found
        errors += found
        warnings += _base_warnings(adapter, base)
    modules = _module_reports(adapter) if adapter is not None else ()
    warnings += _effect_warnings(modules)
    return DoctorReport(
        path=str(path),
        format=kind,
        base=adapter.base if adapter is not None else None,
        base_matches=matches,
        norm=math.hypot(*(module.norm for module in modules)),
        errors=tuple(errors),
        warnings=tuple(warnings),
        modules=modules,
        runtimes=_runtimes(path, kind, adapter, base),
    )


def _file_warnings(folder: Path, limits: Limits) -> list[str]:
    warnings = []
    unknown = parse_config(read_json(folder / CONFIG_NAME, limits=limits), limits).unknown
    if unknown:
        names = ", ".join(printable(name) for name in unknown)
        warnings.append(f"`{CONFIG_NAME}` has fields unknown to PEFT {PEFT_VERSION}: {names}.")
    names_found = read_safetensors_header(folder / WEIGHTS_NAME, limits).tensors
    if not all(name.startswith(PREFIX) for name in names_found):
        warnings.append(
            f"Keys lack the prefix `{PREFIX}`, so PEFT loads them silently as no adapter. "
            "Convert the adapter."
        )
    if (folder / MANIFEST_NAME).exists():
        try:
            verify_manifest(folder)
        except LoraGenError as error:
            warnings.append(str(error))
    return warnings


def _read(path: Path, base: BaseModelSpec | None, limits: Limits) -> tuple[Adapter, list[str]]:
    """The adapter, and why it does not fit the base; one that fits is read once."""
    if base is not None:
        try:
            return load_adapter(path, base=base, allow_embeddings=True, limits=limits), []
        except LoraGenError as error:
            misfit = [str(error)]
    else:
        misfit = []
    return load_adapter(path, base=None, allow_embeddings=True, limits=limits), misfit


def _base_errors(path: Path, base: BaseModelSpec, limits: Limits) -> list[str]:
    try:
        load_adapter(path, base=base, allow_embeddings=True, limits=limits)
    except LoraGenError as error:
        return [str(error)]
    return []


def _base_warnings(adapter: Adapter, base: BaseModelSpec) -> list[str]:
    if adapter.base is None or adapter.base == base.id:
        return []
    return [
        f"The adapter names the base {printable(adapter.base)}, not `{base.id}`. Fitting shapes do "
        "not prove that it was made for this base."
    ]


def _module_reports(adapter: Adapter) -> tuple[ModuleReport, ...]:
    norms = module_norms(adapter)
    return tuple(
        ModuleReport(module=name, rank=pair.rank, scaling=pair.scaling, norm=norms[name])
        for name, pair in adapter.pairs.items()
    )


def _effect_warnings(modules: tuple[ModuleReport, ...]) -> list[str]:
    silent = [module.module for module in modules if not module.norm > 0]
    if not silent:
        return []
    if len(silent) == len(modules):
        return ["The adapter has no effect: every delta weight is zero. It was never trained."]
    return [
        f"{len(silent)} of {len(modules)} modules have no effect (zero delta weight), such as "
        f"`{silent[0]}`."
    ]


def _runtimes(
    path: Path, kind: str | None, adapter: Adapter | None, base: BaseModelSpec | None
) -> tuple[RuntimeVerdict, ...]:
    architecture = base.architecture if base is not None else None
    try:
        if kind == "peft":
            folder = path if path.is_dir() else path.parent
            return tuple(runtime_report(folder, architecture=architecture))
        if adapter is not None:
            return tuple(runtime_report(adapter, architecture=architecture))
    except LoraGenError:
        # the same error already stands in the report: nothing could be read
        return ()
    return ()
