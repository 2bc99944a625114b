"""Descriptions that fit several tasks: the file, and what one training batch takes of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lora_gen.errors import ConfigError
from lora_gen.files import atomic_write_text
from training.behavior_data import BehaviorRecord

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class AmbiguousRecord:
    """Wordings that mean the same, and the tasks that they fit."""

    split: str
    descriptions: tuple[str, ...]
    readings: tuple[str, ...]


def write_ambiguous(path: Path, records: Iterable[AmbiguousRecord]) -> None:
    """Write a file of ambiguous descriptions, one JSON object a line."""
    atomic_write_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def read_ambiguous(path: Path, *, split: str) -> list[AmbiguousRecord]:
    """Records of one split.

    Raises:
        ConfigError: There is no file, a line is not a record, or the split is empty.
    """
    if not path.is_file():
        raise ConfigError(
            f"`{path}` is not a file. Make it with the recipe's first command, or leave "
            "`task.ambiguous` out."
        )
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            data = json.loads(line)
            record = AmbiguousRecord(
                split=data["split"],
                descriptions=tuple(data["descriptions"]),
                readings=tuple(data["readings"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"`{path}` line {number} is not a record with split, descriptions and readings "
                f"({error}). Make the file again."
            ) from error
        if record.split == split:
            records.append(record)
    if not records:
        raise ConfigError(f"`{path}` has no record of split {split!r}. Name a split that it holds.")
    return records


class Ambiguity:
    """The ambiguous descriptions of a training run.

    Args:
        records: Their readings must all be in `tasks`.
        tasks: What each reading does, by name.
        places: Readings that one batch shows of a description, repeated where there are fewer.

    Raises:
        ConfigError: A reading is not among the tasks.
    """

    def __init__(
        self,
        records: Sequence[AmbiguousRecord],
        tasks: Mapping[str, BehaviorRecord],
        *,
        places: int,
    ) -> None:
        for record in records:
            missing = [name for name in record.readings if name not in tasks]
            if missing:
                raise ConfigError(
                    f"`{record.descriptions[0]}` has the reading `{missing[0]}`, which is no task "
                    "of `task.splits`. Add its split, or make the file again."
                )
        self.records, self._tasks, self.places = list(records), tasks, places
        self._by_task: dict[str, list[AmbiguousRecord]] = {}
        for record in self.records:
            for name in record.readings:
                self._by_task.setdefault(name, []).append(record)

    def draw(self, rng: random.Random, lines: int) -> tuple[str, list[list[Pair]]]:
        """(a description, `lines` pairs for each of `places` readings of it)."""
        record = rng.choice(self.records)
        names = rng.sample(record.readings, min(len(record.readings), self.places))
        shown = [self._tasks[names[i % len(names)]] for i in range(self.places)]
        return rng.choice(record.descriptions), [rng.sample(t.examples, lines) for t in shown]

    def description_of(self, task: str, rng: random.Random) -> str | None:
        """An ambiguous description that fits a task, if there is one."""
        found = self._by_task.get(task)
        return rng.choice(rng.choice(found).descriptions) if found else None
