"""`lora-gen zoo`: add, list, show, verify and remove the adapters of a zoo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_gen.cli.common import (
    console,
    handled,
    print_json,
    print_table,
    printable,
    quiet_libraries,
)
from lora_gen.cli.options import AdapterFolder, Json
from lora_gen.cli.search import IndexFolder, open_index
from lora_gen.errors import ConfigError
from lora_gen.strict_json import read_json

DAMAGED = 1
"""Exit code of `verify` when the question was fine and the zoo is not."""

_SHOWN_ID = 12
_INFO_KEYS = ("prompts", "examples", "seed", "steps", "accuracy", "extra")

zoo_app = typer.Typer(
    no_args_is_help=True,
    help="Keep adapters with what they do: a folder of adapters under their content's hash, and a "
    "catalog that says what each one is for.",
)

ZooFolder = Annotated[Path, typer.Argument(metavar="ZOO", help="Folder of the zoo.")]
EntryId = Annotated[str, typer.Argument(metavar="ID", help="Id, or the first digits of one.")]


@zoo_app.command("add")
@handled
def add(
    zoo: ZooFolder,
    adapter: AdapterFolder,
    task: Annotated[str, typer.Option("--task", help="Name of the task.")],
    *,
    description: Annotated[
        list[str] | None, typer.Option("--description", help="The task in words; repeatable.")
    ] = None,
    family: Annotated[
        str, typer.Option("--family", help="Near-duplicates share one. Default: the task.")
    ] = "",
    split: Annotated[
        str, typer.Option("--split", help="seen, or unseen_… for evaluation only.")
    ] = "seen",
    info: Annotated[
        Path | None,
        typer.Option("--info", help=f"JSON file with any of {', '.join(_INFO_KEYS)}."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Add an adapter; the zoo is made if its folder is missing or empty.

    Example: lora-gen zoo add my-zoo my-adapter --task upper --description "Write it in capitals."
    """
    from lora_gen.adapter.io import load_adapter
    from lora_gen.zoo.content import file_hashes
    from lora_gen.zoo.entry import ORIGIN, EntryInfo
    from lora_gen.zoo.origin import origin_of
    from lora_gen.zoo.splits import require_split
    from lora_gen.zoo.store import Zoo

    record = EntryInfo(
        **_read_info(info),
        task=task,
        family=family,
        split=require_split(split),
        descriptions=tuple(description or ()),
    )
    loaded = load_adapter(adapter)
    is_new = not zoo.exists() or (zoo.is_dir() and not any(zoo.iterdir()))
    with Zoo.open(zoo, create=is_new) as opened:
        opened.guard.require_allowed(file_hashes(adapter))
        origin = {ORIGIN: origin_of(adapter)}
        entry = opened.add(loaded, replace(record, extra={**record.extra, **origin}))
    if json_output:
        print_json(entry.to_dict())
    else:
        console().print(f"added {entry.id} ({printable(entry.task)}, {entry.split})")


@zoo_app.command("list")
@handled
def list_entries(
    zoo: ZooFolder,
    *,
    split: Annotated[str | None, typer.Option("--split", help="Only this split.")] = None,
    base: Annotated[str | None, typer.Option("--base", help="Only for this base model.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Only this task.")] = None,
    json_output: Json = False,
) -> None:
    """List the entries in the order they were added.

    Example: lora-gen zoo list my-zoo --split unseen_composition
    """
    from lora_gen.zoo.splits import require_split
    from lora_gen.zoo.store import Zoo

    with Zoo.open(zoo, read_only=True) as opened:
        chosen = require_split(split) if split is not None else None
        entries = opened.entries(split=chosen, base=base, task=task)
    if json_output:
        print_json([entry.to_dict() for entry in entries])
        return
    rows = [
        (
            *(entry.id[:_SHOWN_ID], entry.task, entry.split, entry.base, entry.rank),
            "" if entry.accuracy is None else f"{entry.accuracy:.3f}",
            entry.descriptions[0] if entry.descriptions else "",
        )
        for entry in entries
    ]
    header = ("id", "task", "split", "base", "rank", "accuracy", "description")
    print_table(rows, header=header, title=f"{len(entries)} entries in {zoo}")


@zoo_app.command("show")
@handled
def show(zoo: ZooFolder, entry_id: EntryId, *, json_output: Json = False) -> None:
    """Show all that is known about one entry, and where its folder is.

    Example: lora-gen zoo show my-zoo 3fa9
    """
    from lora_gen.zoo.store import Zoo

    with Zoo.open(zoo, read_only=True) as opened:
        entry = opened.get(opened.find_id(entry_id))
        content = {**entry.to_dict(), "path": str(opened.folders.path_of(entry.id))}
    if json_output:
        print_json(content)
        return
    print_table(
        [(name, _cell(value)) for name, value in content.items()], header=("field", "value")
    )


@zoo_app.command("verify")
@handled
def verify(zoo: ZooFolder, *, json_output: Json = False) -> None:
    """Hash every file; exit code 1 if an adapter is missing or damaged.

    Example: lora-gen zoo verify my-zoo
    """
    from lora_gen.zoo.store import Zoo

    with Zoo.open(zoo, read_only=True) as opened:
        report = opened.verify()
    if json_output:
        print_json(report.to_dict())
    else:
        rows = [
            *(("missing", entry_id, "no folder") for entry_id in report.missing),
            *(("damaged", entry_id, reason) for entry_id, reason in report.damaged),
            *(("orphaned", name, "no entry owns it") for name in report.orphaned),
        ]
        if rows:
            print_table(rows, header=("finding", "id", "reason"))
        console().print(f"{report.checked} checked, {'all whole' if report.ok else 'DAMAGED'}")
    if not report.ok:
        raise typer.Exit(DAMAGED)


@zoo_app.command("duplicates")
@handled
def duplicates(
    zoo: ZooFolder,
    *,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.5, max=1, help="Cosine of delta weights.")
    ] = 0.99,
    index: IndexFolder = None,
    json_output: Json = False,
) -> None:
    """List pairs of entries with nearly the same delta weights, whatever gauge they are in.

    Below them, entries that lie near so many others that every search would find them.

    Example: lora-gen zoo duplicates my-zoo --threshold 0.95
    """
    from lora_gen.retrieval.flooding import alarms

    quiet_libraries()
    with open_index(zoo, folder=index) as opened:
        pairs = opened.duplicates(threshold=threshold)
        found = alarms(opened)
        tasks = {i: opened.zoo.get(i).task for left, right, _ in pairs for i in (left, right)}
    if json_output:
        print_json([{"ids": [left, right], "cosine": cosine} for left, right, cosine in pairs])
        return
    rows = [
        (f"{cosine:.4f}", left[:_SHOWN_ID], tasks[left], right[:_SHOWN_ID], tasks[right])
        for left, right, cosine in pairs
    ]
    header = ("cosine", "id", "task", "other id", "other task")
    print_table(rows, header=header, title=f"{len(pairs)} pairs in {zoo}")
    for sentence in found:
        console().print(f"hub: {printable(sentence)}")


@zoo_app.command("remove")
@handled
def remove(
    zoo: ZooFolder,
    entry_id: EntryId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_output: Json = False,
) -> None:
    """Remove one entry and its folder, for good.

    Example: lora-gen zoo remove my-zoo 3fa9 --yes
    """
    from lora_gen.zoo.store import Zoo

    with Zoo.open(zoo) as opened:
        entry = opened.get(opened.find_id(entry_id))
        if not yes:
            question = f"Remove {entry.id} ({printable(entry.task)})?"
            typer.confirm(question, abort=True, err=True)
        opened.remove(entry.id)
    if json_output:
        print_json({"removed": entry.id})
    else:
        console().print(f"removed {entry.id} ({printable(entry.task)})")


def _read_info(path: Path | None) -> dict[str, Any]:
    """What the `--info` file says.

    Raises:
        ConfigError: It is not a JSON object, or has an unknown key.
    """
    if path is None:
        return {}
    content = read_json(path, error=ConfigError)
    unknown = sorted(set(content) - set(_INFO_KEYS))
    if unknown:
        raise ConfigError(
            f"`{path}` has the key `{printable(unknown[0])}`. Use {', '.join(_INFO_KEYS)}."
        )
    return content


def _cell(value: object) -> str:
    """One table cell: lists and objects as compact text, one item a line."""
    if isinstance(value, list):
        return "; ".join(
            " -> ".join(item) if isinstance(item, list) else str(item) for item in value
        )
    return "" if value is None else str(value)
