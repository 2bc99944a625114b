"""`lora-gen search` and `lora-gen similar`: find adapters of a zoo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_gen.cli.common import console, print_json, print_table, printable, quiet_libraries
from lora_gen.cli.options import AdapterFolder, Json
from lora_gen.cli.rows import read_examples
from lora_gen.errors import ConfigError

if TYPE_CHECKING:
    from lora_gen.retrieval.encoder import WeightEncoder
    from lora_gen.retrieval.search import AdapterIndex, Hit
    from lora_gen.retrieval.table import Filters

_SHOWN_ID = 12


class By(StrEnum):
    """What a search compares with."""

    weights = "weights"
    text = "text"
    both = "both"


ZooFolder = Annotated[
    Path | None, typer.Option("--zoo", help="Folder of the zoo. Default: the embedded one.")
]
Top = Annotated[int, typer.Option("--top", min=1, max=1000, help="Number of adapters to show.")]
Encoder = Annotated[
    Path | None,
    typer.Option("--encoder", help="Folder of a trained adapter encoder. Default: embedded."),
]
IndexFolder = Annotated[
    Path | None, typer.Option("--index", help="Where vectors are kept. Default: the user's cache.")
]
Examples = Annotated[
    Path | None,
    typer.Option("--examples", help="Input-output pairs: .csv or .tsv of two columns, or .jsonl."),
]
OnlyBase = Annotated[str | None, typer.Option("--base", help="Only adapters for this base.")]
MaxRank = Annotated[int | None, typer.Option("--max-rank", min=1, help="Only up to this rank.")]
MinAccuracy = Annotated[
    float | None,
    typer.Option("--min-accuracy", min=0, max=1, help="Only measured at least this well."),
]


def search(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What the adapter should do.")
    ] = None,
    *,
    zoo: ZooFolder = None,
    examples: Examples = None,
    top: Top = 10,
    by: Annotated[
        By, typer.Option("--by", help="Compare with descriptions, with weights alone, or both.")
    ] = By.text,
    base: OnlyBase = None,
    max_rank: MaxRank = None,
    min_accuracy: MinAccuracy = None,
    encoder: Encoder = None,
    index: IndexFolder = None,
    json_output: Json = False,
) -> None:
    """Find adapters that do what a sentence says; of one source of uploads, three at most.

    With `--examples` the base reads a few solved examples, and weights alone are compared.

    Example: lora-gen search "mask all but the last four digits" --top 5
    """
    from lora_gen.retrieval.by_examples import search_by_examples
    from lora_gen.retrieval.flooding import search_capped

    quiet_libraries()
    shown = None if examples is None else read_examples(examples)
    if text is None and shown is None:
        raise ConfigError("Nothing says what to look for. Pass a description, or `--examples`.")
    with open_index(zoo, encoder=encoder, folder=index) as opened:
        wanted = _filters(base, max_rank, min_accuracy)

        def find(count: int) -> list[Hit]:
            if shown is not None:
                return search_by_examples(opened, shown, text=text, top=count, filters=wanted)
            return opened.search(text or "", top=count, by=by.value, filters=wanted)

        _report(search_capped(find, top), opened, as_json=json_output)


def similar(
    adapter: AdapterFolder,
    *,
    zoo: ZooFolder = None,
    by_effect: Annotated[
        bool, typer.Option("--by-effect", help="Like in what they do, as the encoder reads it.")
    ] = False,
    top: Top = 10,
    base: OnlyBase = None,
    encoder: Encoder = None,
    index: IndexFolder = None,
    json_output: Json = False,
) -> None:
    """Find adapters like this one: by delta weights, or by effect with `--by-effect`.

    Example: lora-gen similar my-adapter --zoo my-zoo --top 5
    """
    from lora_gen.adapter.io import load_adapter

    quiet_libraries()
    loaded = load_adapter(adapter)
    with open_index(zoo, encoder=encoder, folder=index) as opened:
        find = opened.similar_in_effect if by_effect else opened.similar
        hits = find(loaded, top=top, filters=_filters(base, None, None))
        _report(hits, opened, as_json=json_output)


@contextmanager
def open_index(
    zoo: Path | None, *, encoder: Path | None = None, folder: Path | None = None
) -> Iterator[AdapterIndex]:
    """The index of a zoo, brought up to date; what that took is said on stderr."""
    from lora_gen.retrieval.search import AdapterIndex
    from lora_gen.retrieval.vectors import Vectorizer

    with AdapterIndex.open(
        zoo or _embedded_zoo(), folder=folder, vectorizer=Vectorizer(encoder=load_encoder(encoder))
    ) as opened:
        for line in opened.repairs:
            console(stderr=True).print(f"index: {printable(line)}")
        yield opened


def load_encoder(folder: Path | None) -> WeightEncoder | None:
    """The encoder in a folder, or the embedded one, if there is one."""
    from lora_gen.retrieval.encoder import WeightEncoder, default_encoder

    return default_encoder() if folder is None else WeightEncoder.from_pretrained(folder)


def require_encoder(folder: Path | None) -> WeightEncoder:
    """The encoder in a folder, or the embedded one.

    Raises:
        ConfigError: None was given, and none is embedded.
    """
    found = load_encoder(folder)
    if found is None:
        raise ConfigError(
            "There is no embedded adapter encoder in this installation. Pass `--encoder FOLDER`."
        )
    return found


def _embedded_zoo() -> Path:
    from lora_gen.adapter.base_model import resolve_base

    folder = resolve_base("tiny_lm").parent / "zoo"
    if not folder.is_dir():
        raise ConfigError("There is no embedded zoo in this installation. Pass `--zoo FOLDER`.")
    return folder


def _filters(base: str | None, max_rank: int | None, min_accuracy: float | None) -> Filters:
    from lora_gen.retrieval.table import Filters

    return Filters(base=base, max_rank=max_rank, min_accuracy=min_accuracy)


def _report(hits: Sequence[Hit], opened: AdapterIndex, *, as_json: bool) -> None:
    folders = opened.zoo.folders
    if as_json:
        print_json([_record(hit, folders.path_of(hit.entry.id)) for hit in hits])
        return
    rows = [
        (
            f"{hit.score:.3f}",
            hit.entry.id[:_SHOWN_ID],
            hit.entry.task,
            hit.entry.rank,
            "" if hit.entry.accuracy is None else f"{hit.entry.accuracy:.3f}",
            hit.entry.descriptions[0] if hit.entry.descriptions else "",
        )
        for hit in hits
    ]
    print_table(rows, header=("score", "id", "task", "rank", "accuracy", "description"))


def _record(hit: Hit, path: Path) -> dict[str, Any]:
    entry = hit.entry
    return {
        "id": entry.id,
        "score": hit.score,
        "parts": hit.parts,
        "task": entry.task,
        "base": entry.base,
        "rank": entry.rank,
        "accuracy": entry.accuracy,
        "descriptions": list(entry.descriptions),
        "path": str(path),
    }
