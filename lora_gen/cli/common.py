"""What every verb shares: errors as one sentence, answers as tables or JSON, quiet libraries."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar

import typer

from lora_gen.adapter.versions import require_safe_versions
from lora_gen.errors import LoraGenError, OutputPathError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")

BAD_INPUT = 2
"""Exit code when the input, not the program, is at fault; click uses it for wrong options too."""


def handled(verb: Callable[P, R]) -> Callable[P, R]:
    """The verb, with the library's errors turned into one sentence and exit code 2."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            require_safe_versions()
            return verb(*args, **kwargs)
        except LoraGenError as error:
            fail(error, as_json=bool(kwargs.get("json_output")))

    return run


def fail(error: LoraGenError, *, as_json: bool) -> NoReturn:
    """Report an error, as a sentence on stderr or as an object on stdout, and leave."""
    if as_json:
        print_json({"error": {"code": error.code, "message": str(error)}})
    else:
        typer.echo(f"error: {printable(str(error))}", err=True)
    raise typer.Exit(BAD_INPUT)


def print_json(value: object) -> None:
    """Write one JSON document, and nothing else, to stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def printable(text: str) -> str:
    """The text on one line, with control characters shown as escapes a terminal does not obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def console(*, stderr: bool = False) -> Console:
    """A rich console that reads no markup out of what it prints."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def print_answers(answers: Sequence[Mapping[str, str]], *, title: str | None = None) -> None:
    """A table of what the base answers alone and what it answers with the adapter."""
    columns = {"input": "input", "base": "base_output", "base + adapter": "output"}
    print_table(
        [[answer[key] for key in columns.values()] for answer in answers],
        header=list(columns),
        title=title,
    )


def print_table(
    rows: Sequence[Sequence[object]], *, header: Sequence[str], title: str | None = None
) -> None:
    """A table on stdout; cells are shown as text, never read as markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)) if title else None, title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold", min_width=len(name))
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    console().print(table)


def quiet_libraries() -> None:
    """Keep model libraries from drawing bars and notices over our own output.

    Called by verbs that load models, before they do; errors still come through.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def quiet_pipelines() -> None:
    """Keep diffusers from drawing bars while a pipeline loads; apart, since its import is slow."""
    from diffusers.utils import logging

    logging.disable_progress_bar()


def require_free(path: Path, *, overwrite: bool) -> None:
    """Check, before any work, that an output may be written.

    Raises:
        OutputPathError: The path exists and `--overwrite` was not given, or it is not a folder.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputPathError(f"`{path}` is not a folder. Name another output with `--out`.")
    if path.exists() and not overwrite:
        raise OutputPathError(
            f"`{path}` already exists. Pass `--overwrite` to replace it, or name another folder."
        )
