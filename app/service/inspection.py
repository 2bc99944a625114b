"""What an adapter is, how much it changes each module, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.service.models import Models
from app.service.quality import NOT_ASKED, Forecast
from app.service.uploads import UPLOAD_LIMITS, without_places
from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import singular_values
from lora_gen.adapter.doctor import DoctorReport, doctor


@dataclass(frozen=True, kw_only=True)
class ModuleFacts:
    """One module of an adapter."""

    module: str
    rank: int
    used_rank: int
    """Directions above a millionth of the largest."""

    norm: float
    """Frobenius norm of the delta weight."""

    singular_values: tuple[float, ...]
    """Of the delta weight, largest first."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The findings on one adapter; every text in it may come from a stranger."""

    title: str
    format: str
    base: str
    fits_base: bool | None
    """None when the base is not one of this app's."""

    norm: float
    rank: int
    parameters: int
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    modules: tuple[ModuleFacts, ...]
    """Largest change first."""

    runtimes: tuple[tuple[str, bool, str], ...]
    """(runtime, whether it accepts the adapter, why)."""

    quality: Forecast
    """What its weights say of how well it does its task."""

    card: str = ""
    """The model card as it was written; untrusted text."""

    @property
    def verdict(self) -> str:
        """The findings in one sentence."""
        if self.errors:
            return "This adapter should not be used as it is."
        if self.fits_base is None:
            return (
                "The files are sound; whether it fits is unproven, since this app lacks its base."
            )
        return (
            "Sound, with warnings." if self.warnings else "Sound: files, numbers and fit to base."
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return {**asdict(self), "verdict": self.verdict}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Inspection:
        """From what `to_dict` gave."""
        known = dict(content)
        known.pop("verdict", None)
        known["errors"], known["warnings"] = tuple(known["errors"]), tuple(known["warnings"])
        known["quality"] = Forecast(**known["quality"])
        known["runtimes"] = tuple((name, ok, why) for name, ok, why in known["runtimes"])
        known["modules"] = tuple(
            ModuleFacts(**{**facts, "singular_values": tuple(facts["singular_values"])})
            for facts in known["modules"]
        )
        return cls(**known)


def examine(
    models: Models,
    path: Path,
    adapter: Adapter,
    *,
    title: str,
    quality: Forecast = NOT_ASKED,
) -> Inspection:
    """The findings on an adapter in memory and on disk.

    Args:
        models: Which bases can be compared with.
        path: What it was read from.
        adapter: What was read.
        title: What it is called on the page.
        quality: What its weights say of it.
    """
    spec = models.spec(adapter.base) if adapter.base in models.bases else None
    report = doctor(path, base=spec, limits=UPLOAD_LIMITS)
    return Inspection(
        title=title,
        format=report.format or "not recognized",
        base=adapter.base or "not named",
        fits_base=report.base_matches,
        norm=report.norm,
        rank=adapter.max_rank,
        parameters=adapter.num_parameters,
        errors=_sentences(report.errors, path),
        warnings=_sentences(report.warnings, path),
        modules=_modules(adapter),
        runtimes=_runtimes(report, path),
        quality=quality,
        card=_card(path),
    )


def _modules(adapter: Adapter) -> tuple[ModuleFacts, ...]:
    found = []
    for name, values in singular_values(adapter).items():
        largest = float(values.max()) if values.numel() else 0.0
        found.append(
            ModuleFacts(
                module=name,
                rank=adapter.pairs[name].rank,
                used_rank=int((values > 1e-6 * largest).sum()) if largest > 0 else 0,
                norm=float(values.norm()),
                singular_values=tuple(float(value) for value in values),
            )
        )
    return tuple(sorted(found, key=lambda facts: -facts.norm))


def _runtimes(report: DoctorReport, path: Path) -> tuple[tuple[str, bool, str], ...]:
    return tuple(
        (verdict.runtime, verdict.accepts, without_places(verdict.reason, [str(path)]))
        for verdict in report.runtimes
    )


def _sentences(sentences: tuple[str, ...], path: Path) -> tuple[str, ...]:
    return tuple(without_places(sentence, [str(path), str(path.parent)]) for sentence in sentences)


def _card(path: Path) -> str:
    """The model card beside the weights, cut to what a person reads."""
    card = (path if path.is_dir() else path.parent) / "README.md"
    if not card.is_file() or card.stat().st_size > UPLOAD_LIMITS.json_bytes:
        return ""
    return card.read_text("utf-8", "replace")[:20_000]
