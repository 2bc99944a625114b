"""Many adapters as independent jobs: their vectors, and what they do on tests.

Generating many is the same over the request of one, and lies with it in `cli.bulk_generate`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import load_adapter
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import ConfigError, LoraGenError
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.evaluation.tasks import evaluation_tasks
from lora_gen.files import atomic_write_json, atomic_write_text, make_folder
from lora_gen.jobs import JobOptions
from lora_gen.retrieval.vectors import Vectorizer, VectorRow
from lora_gen.strict_json import read_json
from lora_gen.zoo.store import Zoo

if TYPE_CHECKING:
    from lora_gen.retrieval.encoder import WeightEncoder

Pairs = Sequence[tuple[str, str]]

CHUNK = 16
"""Adapters of one job: they are measured in one pass of the base."""
_ENCODED = 64
"""Adapters that a job reads for the index."""


class BulkVectorizer(Vectorizer):
    """Makes the vectors of a zoo's entries in jobs; an index that it is given to is filled by them.

    Args:
        options: Where jobs run.
        encoder: The trained encoder of weights.
        encoder_folder: Where workers load it from; None for the embedded one.
        progress: Called with the number of entries that one job has done.
    """

    def __init__(
        self,
        options: JobOptions,
        encoder: WeightEncoder | None = None,
        *,
        encoder_folder: Path | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(encoder=encoder)
        self.options, self.encoder_folder, self.progress = options, encoder_folder, progress

    def batches(
        self, zoo: Zoo, ids: Sequence[str], size: int
    ) -> Iterator[tuple[list[VectorRow], list[str]]]:
        """See `Vectorizer.batches`; an entry whose job failed is among those not read."""
        chunks = {str(i): list(ids[i : i + _ENCODED]) for i in range(0, len(ids), _ENCODED)}
        where = None if self.encoder_folder is None else str(self.encoder_folder)
        jobs = {
            name: {"zoo": str(zoo.folder), "ids": chunk, "encoder": where}
            for name, chunk in chunks.items()
        }
        for result in self.options.run("lora_gen.evaluation.bulk:encode_entries", jobs):
            chunk = chunks[result.name]
            yield result.value if result.error is None else ([], chunk)
            if self.progress is not None:
                self.progress(len(chunk))


def encode_entries(
    zoo: str, ids: Sequence[str], encoder: str | None
) -> tuple[list[VectorRow], list[str]]:
    """The job: what an index keeps of these entries, and the ids that cannot be read."""
    torch.set_num_threads(1)
    with Zoo.open(zoo, read_only=True) as opened:
        return _vectorizer(encoder).rows(opened, ids)


@cache
def _vectorizer(folder: str | None) -> Vectorizer:
    from lora_gen.retrieval.encoder import WeightEncoder, default_encoder

    encoder = default_encoder() if folder is None else WeightEncoder.from_pretrained(folder)
    return Vectorizer(encoder=encoder)


def adapters_with_tests(
    folder: Path, tests: Mapping[str, Pairs] | None
) -> dict[str, tuple[Path, Pairs]]:
    """Name -> adapter and its tests: of a zoo's entries, or of the folders within a folder.

    Args:
        folder: A zoo, or a folder with one adapter folder a task.
        tests: Task -> pairs; None takes those that the entries of a zoo keep.

    Raises:
        ConfigError: No adapter there has tests.
        ZooError: As `evaluation_tasks`.
    """
    if tests is None:
        with Zoo.open(folder, read_only=True) as zoo:
            tasks = [task for split in evaluation_tasks(zoo).items() for task in _own(*split)]
            return {t.entry_id: (zoo.folders.path_of(t.entry_id), t.tests) for t in tasks}
    found = {
        name: (folder / name, pairs)
        for name, pairs in tests.items()
        if pairs and (folder / name).is_dir()
    }
    if not found:
        raise ConfigError(
            f"`{folder}` has no folder that is named like a task with `tests`. Generate the "
            "adapters from the same file with `lora-gen bulk generate`."
        )
    return found


def _own(split: str, tasks: Sequence[Any]) -> Sequence[Any]:
    """Tasks of a split; unseen wordings are the seen tasks once more."""
    return () if split == "unseen_wording" else tasks


def evaluate_adapters(
    adapters: Mapping[str, tuple[Path, Pairs]],
    *,
    base: str,
    out: Path,
    options: JobOptions,
    inputs: int = 16,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Exact match of each adapter on its tests, beside the base's; what `out` holds is kept.

    Each job's rows are a file of their own, so that a run that was stopped goes on where it was.

    Args:
        adapters: As `adapters_with_tests` gives them.
        base: The base of all of them.
        out: Folder for the parts, and for `report.json` and `report.md` at the end.
        options: Where jobs run.
        inputs: Tests an adapter; few are repeated.

    Yields:
        Name and row: `accuracy`, `base_accuracy`, or `error`.

    Raises:
        ConfigError: `out` holds measurements of another base or number of inputs.
    """
    parts = _Parts(out, {"base": base, "inputs": inputs})
    todo = [name for name in adapters if name not in parts.rows]
    jobs: dict[str, dict[str, Any]] = {}
    for start in range(0, len(todo), CHUNK):
        chosen = {name: adapters[name] for name in todo[start : start + CHUNK]}
        given = {
            n: (str(p), [tests[i % len(tests)] for i in range(inputs)])
            for n, (p, tests) in chosen.items()
        }
        jobs[str(start)] = {"adapters": given, "base": base}
    for result in options.run("lora_gen.evaluation.bulk:measure_adapters", jobs):
        names = list(jobs[result.name]["adapters"])
        rows = result.value or {name: {"error": result.error} for name in names}
        parts.add(rows)
        yield from rows.items()
    _write_report(out, {name: parts.rows[name] for name in adapters if name in parts.rows}, base)


def measure_adapters(
    adapters: Mapping[str, tuple[str, Pairs]], base: str
) -> dict[str, dict[str, Any]]:
    """The job: all adapters in one pass of the base, each on its own tests, and the base alone."""
    torch.set_num_threads(1)
    model, chat = _base(base)
    rows: dict[str, dict[str, Any]] = {}
    held: dict[str, Adapter] = {}
    for name, (folder, _) in adapters.items():
        try:
            held[name] = load_adapter(Path(folder))
        except LoraGenError as error:
            rows[name] = {"error": str(error)}
    if held:
        pairs = [pair for name in held for pair in adapters[name][1]]
        lines = chat.pack([chat.line(*pair) for pair in pairs])
        factors = stack_adapters(list(held.values()))
        own, bare = (
            exact_matches(model, lines, each).view(len(held), -1).float().mean(1).tolist()
            for each in (factors, None)
        )
        rows |= {
            name: {"accuracy": accuracy, "base_accuracy": base_accuracy}
            for name, accuracy, base_accuracy in zip(held, own, bare, strict=True)
        }
    return rows


@cache
def _base(base: str) -> Any:
    return load_causal_lm(base)


class _Parts:
    """Rows that jobs gave, each job's in a file that appears whole or not at all."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        make_folder(folder / "parts")
        self._folder = folder / "parts"
        path = folder / "settings.json"
        if path.exists() and (held := read_json(path, error=ConfigError)) != settings:
            raise ConfigError(
                f"`{folder}` holds measurements with {held}, not {dict(settings)}. Name another "
                "folder with `--out`."
            )
        atomic_write_json(path, dict(settings))
        self.rows: dict[str, dict[str, Any]] = {}
        for part in sorted(self._folder.glob("*.json")):
            self.rows |= read_json(part, error=ConfigError)

    def add(self, rows: Mapping[str, dict[str, Any]]) -> None:
        """Keep the rows that were measured; those that failed are tried again next time."""
        good = {name: row for name, row in rows.items() if "error" not in row}
        if good:
            digest = hashlib.blake2b("\0".join(sorted(good)).encode(), digest_size=16).hexdigest()
            atomic_write_json(self._folder / f"{digest}.json", good)
            self.rows |= good


def _write_report(out: Path, rows: Mapping[str, Mapping[str, Any]], base: str) -> None:
    """`report.json` and `report.md`; a mean has an interval where there are two adapters."""
    report: dict[str, Any] = {"base": base, "adapters": dict(rows)}
    for key in ("accuracy", "base_accuracy"):
        if len(rows) > 1:
            report[key] = mean_interval([row[key] for row in rows.values()]).to_dict()
    atomic_write_json(out / "report.json", report)
    lines = ["| adapter | exact match | base alone |", "|---|---|---|"]
    lines += _table(rows.items())
    atomic_write_text(out / "report.md", "\n".join(lines) + "\n")


def _table(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    return [f"| {n} | {row['accuracy']:.3f} | {row['base_accuracy']:.3f} |" for n, row in rows]
