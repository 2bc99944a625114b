"""`lora-gen embed`: vectors of texts under a lens, or the texts that are nearest to a query."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_gen.cli.common import print_json, print_table, quiet_libraries
from lora_gen.cli.options import Json
from lora_gen.errors import BaseModelError, ConfigError, OutputPathError

if TYPE_CHECKING:
    from torch import Tensor

    from lora_gen.adapter.adapter import Adapter
    from lora_gen.evaluation.embedding import Embedder

STDIN = Path("-")
DEFAULT_BASE = "minilm"

Texts = Annotated[
    Path, typer.Argument(metavar="FILE", help="Texts, one a line; `-` reads standard input.")
]
Lens = Annotated[
    Path | None, typer.Option("--adapter", help="The lens. Default: the base's own similarity.")
]
EmbeddingBase = Annotated[
    str | None,
    typer.Option("--base", help="Embedding model. Default: the lens's own, or minilm."),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Write unit vectors, one row a line, as .npy.")
]
Query = Annotated[str | None, typer.Option("--query", help="Show the lines nearest to this text.")]
Top = Annotated[int, typer.Option("--top", min=1, max=1000, help="Lines to show.")]


def embed(
    texts: Texts,
    *,
    adapter: Lens = None,
    base: EmbeddingBase = None,
    out: Out = None,
    query: Query = None,
    top: Top = 5,
    json_output: Json = False,
) -> None:
    """Embed lines of text under a lens: write vectors, or search.

    \b
    lora-gen embed mails.txt --adapter urgent --out vectors.npy
    lora-gen embed mails.txt --adapter urgent --query "the server is down"
    cat mails.txt | lora-gen embed - --query "the server is down" --json
    """
    if out is None and query is None:
        raise ConfigError("Nothing to do: pass `--out` for vectors, or `--query` to search.")
    if out is not None and (out.suffix != ".npy" or not out.absolute().parent.is_dir()):
        raise OutputPathError(
            f"`{out}` must be a .npy file in a folder that exists. Name another `--out`."
        )
    lines = _lines(texts)
    quiet_libraries()
    from lora_gen.adapter.io import load_adapter
    from lora_gen.evaluation.embedding import Embedder

    lens = load_adapter(adapter) if adapter else None
    embedder = Embedder.from_pretrained(base or _base_of(adapter, lens))
    vectors = embedder.embed(lines, lens)
    answer: dict[str, object] = {"texts": len(lines), "width": vectors.shape[1]}
    if out is not None:
        _write(out, vectors)
        answer["out"] = str(out)
    if query is not None:
        answer["nearest"] = _nearest(embedder, query, lines, vectors, lens=lens, top=top)
    if json_output:
        print_json(answer)
        return
    if out is not None:
        typer.echo(f"{len(lines)} vectors of width {vectors.shape[1]} in {out}")
    if query is not None:
        _show(answer["nearest"])


def _lines(file: Path) -> list[str]:
    try:
        content = sys.stdin.read() if file == STDIN else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"`{file}` cannot be read as UTF-8 text ({type(error).__name__}). Name a text file."
        ) from error
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if not lines:
        raise ConfigError(f"`{file}` has no line of text. Put one text on each line.")
    return lines


def _base_of(folder: Path | None, lens: Adapter | None) -> str:
    """The base that a lens names, if it is on this machine."""
    from lora_gen.adapter.named_base import resolve_named_base

    if lens is None:
        return DEFAULT_BASE
    if lens.base is None:
        raise BaseModelError(f"`{folder}` does not name its base. Pass it with `--base`.")
    return str(resolve_named_base(lens.base))


def _write(out: Path, vectors: Tensor) -> None:
    import io

    import numpy as np

    from lora_gen.files import atomic_write_bytes

    stream = io.BytesIO()
    np.save(stream, vectors.numpy(), allow_pickle=False)
    atomic_write_bytes(out, stream.getvalue())


def _nearest(
    embedder: Embedder,
    query: str,
    lines: list[str],
    vectors: Tensor,
    *,
    lens: Adapter | None,
    top: int,
) -> list[dict[str, object]]:
    """The nearest lines, and beside them those of the base where there is a lens."""
    sides = {"": (vectors, lens)}
    if lens is not None:
        sides["base_"] = (embedder.embed(lines), None)
    rows: list[dict[str, object]] = [{} for _ in range(min(top, len(lines)))]
    for name, (own, adapter) in sides.items():
        cosines = own @ embedder.embed([query], adapter)[0]
        for row, i in zip(rows, cosines.argsort(descending=True).tolist(), strict=False):
            row |= {f"{name}text": lines[i], f"{name}cosine": round(float(cosines[i]), 4)}
    return rows


def _show(rows: object) -> None:
    names = {"text": "nearest", "cosine": "cosine"}
    names |= {"base_text": "nearest to the base", "base_cosine": "cosine"}
    assert isinstance(rows, list)
    shown = [name for name in names if name in rows[0]]
    print_table([[row[name] for name in shown] for row in rows], header=[names[n] for n in shown])
