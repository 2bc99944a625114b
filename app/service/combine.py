"""New adapters from adapters: merged, made smaller, or taken from between two."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.service import limits
from app.service.downloads import zip_folder
from app.service.sessions import CancelledError, OwnAdapter, Session
from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import module_norms
from lora_gen.adapter.io import save_adapter
from lora_gen.errors import AdapterLimitError, AdapterMismatchError, ConfigError
from lora_gen.weight_space.compress import compress_adapter
from lora_gen.weight_space.edit import interpolated
from lora_gen.weight_space.merge import METHODS, Merged, merge_adapters

if TYPE_CHECKING:
    from app.service.service import AppService

MOST = 8
MAX_WEIGHT = 4.0
MOST_RANK = 512
MOST_WORK = 8_000_000_000
"""Values times ranks: about ten seconds of one core."""
MOST_ENTRIES = 100_000_000
"""Entries of delta weights, of all adapters, for the methods that look at each."""
MOST_BYTES = 512_000_000
"""What one visitor's files may have when another adapter is made."""
_ENTRYWISE = ("ties", "dare", "dare_ties")


@dataclass(frozen=True, kw_only=True)
class Combined:
    """A new adapter of the session, ready to be tried and taken home."""

    own: OwnAdapter
    zip: Path
    error: float
    """What the cut to a rank or an energy left out, relative to the uncut result."""
    sentence: str

    @property
    def norms(self) -> dict[str, float]:
        """Module path -> Frobenius norm of its delta weight."""
        return dict(module_norms(self.own.adapter))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return {
            "id": self.own.id,
            "title": self.own.title,
            "rank": self.own.adapter.max_rank,
            "values": self.own.adapter.num_parameters,
            "relative_error": self.error,
            "sentence": self.sentence,
            "record": dict(self.own.record),
        }


def merge(
    service: AppService,
    session: Session,
    references: Any,
    *,
    weights: Any = None,
    method: Any = "linear",
    rank: Any = 0,
) -> Combined:
    """Two to eight adapters of one base as one, kept in the session.

    Args:
        service: Knows the adapters.
        session: Whose they are.
        references: From the service's menu.
        weights: A number for each, or nothing for the method's own.
        method: One of `merge_adapters`' methods.
        rank: Largest rank of the result; 0 keeps the sum of the ranks.

    Raises:
        LoraGenError: A value is unusable, there is no such adapter, or they do not fit together.
        CancelledError: The visitor left meanwhile.
    """
    how = limits.one_of("method", method, METHODS)
    most = _rank(rank)
    chosen = _chosen(service, session, references, (2, MOST), entrywise=how in _ENTRYWISE)
    shares = _weights(weights)

    def work() -> _Made:
        done = merge_adapters(list(chosen.values()), shares, method=how, rank=most)  # type: ignore[arg-type]
        record = {"merged_from": list(chosen), "weights": shares, "method": how}
        made = f"{len(chosen)} adapters as one, by {how}"
        return _Made.of_merge(done, record, title=f"merge of {len(chosen)} by {how}", made=made)

    return _kept(service, session, work)


def compress(
    service: AppService, session: Session, references: Any, *, rank: Any = 0, energy: Any = 0.0
) -> Combined:
    """An adapter at a smaller rank, or with a share of its energy, kept in the session.

    Args:
        service: Knows the adapter.
        session: Whose it is.
        references: One of the service's menu.
        rank: Rank of every module, or 0.
        energy: Share of the squared norm to keep, or 0; one of the two is given.

    Raises:
        LoraGenError: A value is unusable, or there is no such adapter.
        CancelledError: The visitor left meanwhile.
    """
    most, share = _rank(rank), limits.bounded("energy", energy, 0, 1) or None
    chosen = _chosen(service, session, references, (1, 1))
    reference, adapter = next(iter(chosen.items()))

    def work() -> _Made:
        done = compress_adapter(adapter, rank=most, energy=share)
        after = done.adapter.num_parameters
        return _Made(
            adapter=done.adapter,
            error=done.error,
            record={"made_from": reference, "rank": most, "energy": share},
            title=f"at rank {most}" if most else f"with {share:.0%} of its energy",
            sentence=f"{after:,} of {adapter.num_parameters:,} values, {done.error:.2%} away from "
            "what it was.",
        )

    return _kept(service, session, work)


def between(
    service: AppService, session: Session, references: Any, *, share: Any, rank: Any = 0
) -> Combined:
    """The adapter some share of the way from the first to the second, kept in the session.

    Args:
        service: Knows the adapters.
        session: Whose they are.
        references: Two of the service's menu, in order.
        share: 0 is the first, 1 the second; -1 to 2 goes beyond them.
        rank: Largest rank of the result; 0 keeps the sum of the ranks.

    Raises:
        LoraGenError: A value is unusable, there is no such adapter, or they do not fit together.
        CancelledError: The visitor left meanwhile.
    """
    part, most = limits.bounded("share", share, -1, 2), _rank(rank)
    chosen = _chosen(service, session, references, (2, 2))
    start, end = chosen.values()

    def work() -> _Made:
        done = interpolated(start, end, part, rank=most)
        record = {"made_between": list(chosen), "share": part}
        where = f"{part:.0%} of the way from the first to the second"
        return _Made.of_merge(done, record, title=f"{part:.0%} between two", made=where)

    return _kept(service, session, work)


def numbers(text: Any) -> list[float] | None:
    """The numbers in a line of text, by commas or spaces; None where there are none.

    Raises:
        ConfigError: A word of it is no number.
    """
    words = [word for word in re.split(r"[\s,;]+", str(text or "")[:1_000]) if word]
    try:
        return [float(word) for word in words] or None
    except ValueError as error:
        raise ConfigError(
            f"`weights` is `{str(text)[:60]}`, which is not numbers. Write them as 0.5, 0.5."
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A new adapter before it is kept, and what is said of it."""

    adapter: Adapter
    error: float
    record: Mapping[str, Any]
    title: str
    sentence: str

    @classmethod
    def of_merge(cls, done: Merged, record: Mapping[str, Any], *, title: str, made: str) -> _Made:
        """What came of a merge; `made` says in words how."""
        rank = done.adapter.max_rank
        return cls(
            adapter=done.adapter,
            error=done.error,
            record={**record, "rank": rank},
            title=title,
            sentence=f"{made}, at rank {rank}: the rank leaves out {done.error:.2%}.",
        )


def _kept(service: AppService, session: Session, work: Callable[[], _Made]) -> Combined:
    """What `work` makes, written to the session's folder.

    Raises:
        AdapterLimitError: The visitor's files have no room for another.
        CancelledError: The visitor left meanwhile.
    """
    with session.work() as cancelled:
        made = work()
        if cancelled.is_set():
            raise CancelledError
        new, folder = session.new_folder()
        _require_room(session, made.adapter)
        base = made.adapter.base
        spec = service.models.spec(base) if base in service.models.bases else None
        record = {**made.record, "relative_error": made.error}
        save_adapter(
            made.adapter,
            folder,
            format="diffusers" if spec is not None and spec.kind == "diffusers" else "peft",
            base=spec,
            exact="energy" in record,  # the portable profile pads every module to the largest rank
            provenance=record,
        )
        own = OwnAdapter(
            id=new,
            title=made.title,
            adapter=made.adapter,
            folder=folder,
            source="combined",
            record=record,
        )
        session.keep(own)
        zip = zip_folder(folder, new)
    return Combined(own=own, zip=zip, error=made.error, sentence=made.sentence)


def _chosen(
    service: AppService,
    session: Session,
    references: Any,
    number: tuple[int, int],
    *,
    entrywise: bool = False,
) -> dict[str, Adapter]:
    """Reference -> adapter, in the order they were chosen.

    Raises:
        LoraGenError: They are too few, too many or too large, or one is unknown.
    """
    given = list(references) if isinstance(references, list | tuple) else [references]
    names = list(dict.fromkeys(str(one) for one in given if one))
    fewest, most = number
    if not fewest <= len(names) <= most:
        takes = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise AdapterMismatchError(
            f"{len(names)} adapters are chosen, but this takes {takes}. Choose again."
        )
    chosen = {name: service.resolve(session, name)[2] for name in names}
    adapters = list(chosen.values())
    work = sum(a.num_parameters for a in adapters) * sum(a.max_rank for a in adapters)
    entries = sum(p.out_features * p.in_features for a in adapters for p in a.pairs.values())
    if work > MOST_WORK or (entrywise and entries > MOST_ENTRIES):
        raise AdapterLimitError(
            "The adapters are too large for this page together. Use `lora-gen merge` or "
            "`lora-gen compress` on your own machine, or another method."
        )
    return chosen


def _require_room(session: Session, adapter: Adapter) -> None:
    kept = sum(file.stat().st_size for file in session.folder.rglob("*") if file.is_file())
    needed = 8 * adapter.num_parameters  # the folder in float32, and its zip
    if kept + needed > MOST_BYTES:
        raise AdapterLimitError(
            f"This visit keeps {kept / 1e6:,.0f} MB of files, and {needed / 1e6:,.0f} MB more are "
            f"beyond its {MOST_BYTES / 1e6:,.0f} MB. Choose a smaller rank, or reload the page."
        )


def _rank(value: Any) -> int | None:
    return limits.whole("rank", value, 0, MOST_RANK) or None


def _weights(value: Any) -> list[float] | None:
    given = numbers(value) if isinstance(value, str) or value is None else list(value)
    return [limits.bounded("weights", one, -MAX_WEIGHT, MAX_WEIGHT) for one in given or ()] or None
