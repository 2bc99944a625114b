"""A flat map of a zoo: every adapter a point, near where likeness says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lora_gen.errors import MissingDependencyError, ZooError
from lora_gen.retrieval.table import Column
from lora_gen.retrieval.vectors import Vector, signature_of

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter
    from lora_gen.retrieval.search import AdapterIndex


@dataclass(frozen=True, kw_only=True)
class MapPoint:
    """One adapter on the map."""

    name: str
    """Id of an entry, or the given name of another adapter."""
    x: float
    y: float
    task: str
    """Empty for an adapter that is not in the zoo."""
    split: str
    accuracy: float | None
    is_entry: bool
    """Whether it is an entry of the zoo, or an adapter put among them."""


@dataclass(frozen=True, kw_only=True)
class ZooMap:
    """Points by principal components, and how much of the variance they show."""

    column: Column
    points: tuple[MapPoint, ...]
    shown: tuple[float, float]
    """Share of the variance along x and y."""

    def to_dict(self) -> dict[str, Any]:
        """The map as JSON data, which the app draws."""
        points = [asdict(point) for point in self.points]
        return {"column": self.column, "shown": list(self.shown), "points": points}


def map_zoo(
    index: AdapterIndex,
    *,
    column: Column = "signature",
    others: Mapping[str, Adapter] | None = None,
) -> ZooMap:
    """The map of a zoo.

    Args:
        index: Its index.
        column: `signature` (delta weights), `weights` (the trained encoder) or `text`
            (descriptions).
        others: Adapters to put among the entries by name, such as generated ones; they do not
            change where the entries lie.

    Raises:
        MissingDependencyError: `weights` without a trained encoder.
        ZooError: Fewer than three entries have such a vector, or a text is asked of an adapter.
    """
    ids, vectors = index.vectors(column)
    if len(ids) < 3:
        raise ZooError(
            f"`{index.zoo.folder}` has {len(ids)} entries with a vector for `{column}`, but a map "
            "needs 3. Add some, or map by another."
        )
    center, axes, shown = _principal(vectors)
    spots = (vectors - center) @ axes
    points = [_entry_point(index, name, spot) for name, spot in zip(ids, spots, strict=True)]
    for name, adapter in (others or {}).items():
        x, y = (_vector_of(index, adapter, column) - center) @ axes
        points.append(
            MapPoint(
                name=name,
                x=float(x),
                y=float(y),
                task="",
                split="",
                accuracy=None,
                is_entry=False,
            )
        )
    return ZooMap(column=column, points=tuple(points), shown=shown)


def draw_map(found: ZooMap, path: Path) -> None:
    """Write the map as a picture; its suffix says which format.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "A picture needs Matplotlib. Install it with `pip install matplotlib`, or write the "
            "map as JSON."
        ) from error
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    for split in sorted({point.split for point in found.points if point.is_entry}):
        chosen = [point for point in found.points if point.is_entry and point.split == split]
        axes.scatter(*_columns(chosen), s=10, alpha=0.6, label=split)
    others = [point for point in found.points if not point.is_entry]
    if others:
        axes.scatter(*_columns(others), s=80, marker="*", color="black", label="others")
    for point in others:
        axes.annotate(point.name, (point.x, point.y))
    axes.set_xlabel(f"component 1 ({found.shown[0]:.0%} of the variance)")
    axes.set_ylabel(f"component 2 ({found.shown[1]:.0%})")
    axes.legend()
    figure.savefig(path, dpi=120)


def _principal(
    vectors: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[float, float]]:
    """Center, two main axes (E, 2) whose largest entries are positive, and their shares."""
    center = vectors.mean(0)
    _, values, rows = np.linalg.svd(vectors - center, full_matrices=False)
    axes = rows[:2].T
    signs = np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    energy = values**2
    total = float(energy.sum()) or 1.0
    return center, axes * signs, (float(energy[0] / total), float(energy[1] / total))


def _entry_point(index: AdapterIndex, entry_id: str, spot: NDArray[np.float32]) -> MapPoint:
    entry = index.zoo.get(entry_id)
    return MapPoint(
        name=entry_id,
        x=float(spot[0]),
        y=float(spot[1]),
        task=entry.task,
        split=entry.split,
        accuracy=entry.accuracy,
        is_entry=True,
    )


def _vector_of(index: AdapterIndex, adapter: Adapter, column: Column) -> Vector:
    if column == "text":
        raise ZooError("A map by text has no place for an adapter alone. Map by `signature`.")
    if column == "weights":
        index.vectorizer.require_encoder()
        return index.vectorizer.weights(adapter)
    return signature_of(adapter)


def _columns(points: Sequence[MapPoint]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.y for point in points]
