"""`lora-gen zoo suspects`, `quarantine`, `forget` and `block`: what an operator doubts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_gen.cli.common import console, handled, print_json, print_table, printable
from lora_gen.cli.options import Json
from lora_gen.cli.zoo import EntryId, ZooFolder
from lora_gen.cli.zoo_build import zoo_app
from lora_gen.errors import ConfigError

__all__ = ["zoo_app"]

Reason = Annotated[str, typer.Option("--reason", help="Why, for people.")]


@zoo_app.command("forget")
@handled
def forget(
    zoo: ZooFolder,
    entry_id: EntryId,
    *,
    generators: Annotated[
        list[Path] | None,
        typer.Option("--generators", help="Folder to search for who learned from it; repeatable."),
    ] = None,
    block: Annotated[bool, typer.Option("--block", help="And refuse it from now on.")] = False,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_output: Json = False,
) -> None:
    """Delete an entry's row and files, and list the generators that learned from it.

    Works on damaged entries and on those in quarantine too.

    Example: lora-gen zoo forget my-zoo 3fa9 --block --generators runs
    """
    from lora_gen.zoo.provenance import trained_on
    from lora_gen.zoo.store import Zoo

    with Zoo.open(zoo) as opened:
        found = opened.guard.find_id(entry_id)
        learned = trained_on(found, zoo, generators or ())
        if not yes:
            typer.confirm(f"Forget {found}, for good?", abort=True, err=True)
        if block:
            opened.guard.block(found, reason)
        gone = opened.guard.forget(found)
    if json_output:
        print_json({"forgotten": found, "files_gone": gone, "blocked": block, "learned": learned})
        return
    console().print(f"forgot {found}")
    if not gone:
        console().print("Something of it is still on the disk; the next writer clears it.")
    if not generators:
        console().print("Pass --generators to search for generators that learned from it.")
    elif learned:
        print_table(list(learned.items()), header=("generator", "what its files say"))
    else:
        console().print("No generator there says that it learned from it.")


@zoo_app.command("quarantine")
@handled
def quarantine(
    zoo: ZooFolder,
    entry_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Its first digits.")
    ] = None,
    *,
    reason: Reason = "",
    release: Annotated[bool, typer.Option("--release", help="Serve it again.")] = False,
    json_output: Json = False,
) -> None:
    """Keep an entry but serve it to nobody; without an id, list what is in quarantine.

    Example: lora-gen zoo quarantine my-zoo 3fa9 --reason "answers with advertisements"
    """
    from lora_gen.zoo.store import Zoo

    with Zoo.open(zoo, read_only=entry_id is None) as opened:
        if entry_id is not None:
            found = opened.guard.find_id(entry_id)
            if release:
                opened.guard.release(found)
            else:
                opened.guard.quarantine(found, reason)
        held = opened.guard.quarantined()
    _show(held, what="quarantine", name="id", as_json=json_output)


@zoo_app.command("block")
@handled
def block(
    zoo: ZooFolder,
    content_hash: Annotated[
        str | None,
        typer.Argument(metavar="[HASH]", help="An entry's id, or the sha256 of a weight file."),
    ] = None,
    *,
    reason: Reason = "",
    remove: Annotated[bool, typer.Option("--remove", help="Let it in again.")] = False,
    json_output: Json = False,
) -> None:
    """Refuse to add what has this hash; without a hash, show the block-list.

    Example: lora-gen zoo block my-zoo HASH --reason "known backdoor"
    """
    from lora_gen.zoo.store import Zoo

    if remove and content_hash is None:
        raise ConfigError("`--remove` needs the hash to take off the block-list. Name it.")
    with Zoo.open(zoo, read_only=content_hash is None) as opened:
        if content_hash is not None and remove:
            opened.guard.unblock(content_hash)
        elif content_hash is not None:
            opened.guard.block(content_hash, reason)
        blocked = opened.guard.blocked()
    _show(blocked, what="the block-list", name="hash", as_json=json_output)


@zoo_app.command("suspects")
@handled
def suspects(
    zoo: ZooFolder,
    adapters: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[ADAPTER]...", help="Judge these too, before adding them."),
    ] = None,
    *,
    base: Annotated[
        str | None, typer.Option("--base", help="Which base, where the zoo has several.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=0, help="Rows to show; 0 for all.")] = 10,
    json_output: Json = False,
) -> None:
    """Rank adapters by how unusual their weights are, those in quarantine too.

    The order says where to look first. It clears nobody.

    Example: lora-gen zoo suspects my-zoo downloaded-adapter
    """
    from lora_gen.zoo.store import Zoo
    from lora_gen.zoo.suspects import WARNING, judge_zoo

    with Zoo.open(zoo, read_only=True) as opened:
        found = judge_zoo(opened, base=base, others=adapters or ())
    if json_output:
        shown = [one.to_dict() for one in found]
        print_json({"base": found[0].base, "warning": WARNING, "suspects": shown})
        return
    rows = [
        (place, f"{one.score:.1f}", one.name[:40], one.state, "; ".join(one.reasons))
        for place, one in enumerate(found, start=1)
    ]
    header = ("place", "score", "adapter", "state", "what stands out")
    print_table(rows[: top or None], header=header, title=f"{len(rows)} adapters of {zoo}")
    console().print(WARNING)


def _show(reasons: dict[str, str], *, what: str, name: str, as_json: bool) -> None:
    if as_json:
        print_json([{name: key, "reason": reason} for key, reason in reasons.items()])
        return
    rows = [(key, printable(reason)) for key, reason in reasons.items()]
    print_table(rows, header=(name, "reason"), title=f"{len(rows)} in {what}")
