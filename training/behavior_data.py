"""What behavior training reads: tasks with descriptions and pairs, one JSON object a line."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lora_gen.codec.codec import AdapterCodec
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError, ZooError
from lora_gen.files import atomic_write_text
from lora_gen.zoo.store import Zoo
from training.adapter_variants import Variants
from training.bad_items import set_aside
from training.token_shards import StreamedTokens, TokenShards


@dataclass(frozen=True, kw_only=True)
class BehaviorRecord:
    """One task: how people describe it, and what it does."""

    task: str
    split: str
    descriptions: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]


def write_behaviors(path: Path, records: Iterable[BehaviorRecord]) -> None:
    """Write a behavior file."""
    atomic_write_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def read_behaviors(path: Path, *, split: str | None = None) -> list[BehaviorRecord]:
    """Records of a behavior file, those of one split if it is named.

    Raises:
        ConfigError: There is no file, a line is not a record, or the split is empty.
    """
    if not path.is_file():
        raise ConfigError(
            f"`{path}` is not a file. Make the behavior file with the recipe's first command."
        )
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            data = json.loads(line)
            record = BehaviorRecord(
                task=data["task"],
                split=data["split"],
                descriptions=tuple(data["descriptions"]),
                examples=tuple((a, b) for a, b in data["examples"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"`{path}` line {number} is not a record with task, split, descriptions and "
                f"examples ({error}). Make the file again."
            ) from error
        if split in (None, record.split):
            records.append(record)
    if not records:
        raise ConfigError(f"`{path}` has no record of split {split!r}. Name a split that it holds.")
    return records


def require_usable(
    records: Iterable[BehaviorRecord], *, lines: int, known: Collection[str] | None = None
) -> None:
    """Check that every task can fill its share of a batch.

    Args:
        records: Tasks to train on.
        lines: Examples of each that one batch takes.
        known: Tasks with an adapter, where each needs one.

    Raises:
        ConfigError: A task has too few examples, or no adapter.
    """
    for record in records:
        if len(record.examples) < lines:
            raise ConfigError(
                f"`{record.task}` has {len(record.examples)} examples, but "
                f"`task.objective.lines_per_task` is {lines}. Lower it, or add examples."
            )
        if known is not None and record.task not in known:
            raise ConfigError(
                f"`{record.task}` has no adapter in `task.zoo`, but "
                "`task.objective.behavior=distill` compares with it. "
                "Add one, or take the task out of the behavior file."
            )


class TextStateCache:
    """Encoded descriptions, least recently used ones forgotten, in float16."""

    _shared: ClassVar[dict[str, TextStateCache]] = {}

    @classmethod
    def shared(cls, encoder: TextEncoder) -> TextStateCache:
        """The one cache of all tasks in this process that read with the same encoder."""
        key = f"{encoder.fingerprint} {encoder.width}"
        return cls._shared.setdefault(key, cls(encoder))

    def __init__(self, encoder: TextEncoder, capacity: int = 131_072) -> None:
        self.encoder, self.capacity = encoder, capacity
        self._states: OrderedDict[str, Tensor] = OrderedDict()

    def batch(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(states (B, K, C) float32, mask (B, K))."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._states]
        if fresh:
            encoded = self.encoder.encode(fresh)
            for text, states, mask in zip(fresh, encoded.states, encoded.mask, strict=True):
                self._states[text] = states[mask].half().cpu()
        found = []
        for text in texts:
            self._states.move_to_end(text)
            found.append(self._states[text].float())
        while len(self._states) > self.capacity:
            self._states.popitem(last=False)
        states = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
        lengths = torch.tensor([len(f) for f in found])
        return states, torch.arange(states.shape[1]) < lengths[:, None]


class ZooTokens:
    """Tokens of the zoo's adapters by task; memory stays flat as the zoo grows.

    Args:
        zoo: The adapters.
        codec: Makes tokens of them.
        tasks: The tasks that are wanted.
        cache: Folder of memory-mapped shards, which hold as many values as the zoo; None encodes
            the zoo's own files whenever they are asked for, and keeps nothing.
        variants: Changes adapters before they are encoded; then nothing is kept either.
    """

    def __init__(
        self,
        zoo: Zoo,
        codec: AdapterCodec,
        tasks: Sequence[str],
        cache: Path | None,
        *,
        variants: Variants | None = None,
    ) -> None:
        by_task = {entry.task: entry.id for entry in zoo.entries() if entry.task}
        self.rows = {task: row for row, task in enumerate(t for t in tasks if t in by_task)}
        self.ids = tuple(by_task[task] for task in self.rows)
        """Ids of the entries behind the rows."""
        ids = "".join(self.ids)
        self.fingerprint = blake2b(f"{ids}{codec.scaling}".encode(), digest_size=8).hexdigest()
        kind = blake2b(f"{codec.layout}{codec.scaling}".encode(), digest_size=8).hexdigest()

        def encode(entry_id: str, source: Zoo = zoo) -> Tensor:
            try:
                adapter = source.load(entry_id)
            except ZooError as error:
                raise set_aside(source.folder, entry_id, error) from error
            return codec.encode(adapter)

        def encode_again(entry_id: str) -> Tensor:
            with Zoo.open(folder, read_only=True) as source:
                return encode(entry_id, source)

        folder = zoo.folder
        shape = (codec.layout.num_tokens, codec.layout.width + 1)
        self.shards: TokenShards | StreamedTokens
        self.codec, self.folder, self.variants = codec, folder, variants
        if cache is None or variants is not None:
            self.shards = StreamedTokens(self.ids, shape, encode_again)
        else:
            self.shards = TokenShards(cache / f"tokens-{kind}", self.ids, shape, encode)

    def batch(self, tasks: Sequence[str], index: int = 0) -> tuple[Tensor, Tensor]:
        """(float32 tokens (M, N, D) of tasks that have an adapter, their positions (M,)).

        `index` is the batch's number, by which variants are drawn, if there are any.
        """
        where = [i for i, task in enumerate(tasks) if task in self.rows]
        rows = [self.rows[tasks[i]] for i in where]
        tokens = self.shards.rows(rows) if self.variants is None else self._varied(rows, index)
        return tokens, torch.tensor(where, dtype=torch.int64)

    def _varied(self, rows: Sequence[int], index: int) -> Tensor:
        assert self.variants is not None
        found = torch.empty(len(rows), self.codec.layout.num_tokens, self.codec.layout.width + 1)
        with Zoo.open(self.folder, read_only=True) as zoo:
            for place, row in enumerate(rows):
                try:
                    adapter = self.variants.whole(zoo, self.ids[row], index)
                except ZooError as error:
                    raise set_aside(self.folder, self.ids[row], error) from error
                found[place] = self.codec.encode(adapter)
        return found
