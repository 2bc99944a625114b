"""`lora-gen edit`: an adapter moved along a direction that a zoo or other words name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, printable, quiet_libraries, require_free
from lora_gen.errors import ConfigError

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter
    from lora_gen.weight_space.merge import Merged

Toward = Annotated[
    str | None, typer.Option("--toward", help="Words of the descriptions that have the attribute.")
]
Words = Annotated[
    str | None, typer.Option("--words", help="What the adapter does. Found with --prompts.")
]
NewWords = Annotated[
    str | None, typer.Option("--new-words", help="What it should do: moved by the generator.")
]
Prompts = Annotated[
    Path | None, typer.Option("--prompts", help="Inputs of its task, to find its words by.")
]


def edit(
    adapter: options.AdapterFolder,
    *,
    zoo: Annotated[Path | None, typer.Option("--zoo", help="Zoo to learn from.")] = None,
    toward: Toward = None,
    words: Words = None,
    new_words: NewWords = None,
    prompts: Prompts = None,
    strength: Annotated[
        float, typer.Option("--strength", help="How far; below 0 moves away from it.")
    ] = 1.0,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("edited"),
    rank: Annotated[int, typer.Option("--rank", min=1, max=64, help="Rank of the result.")] = 16,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Move an adapter towards words: as a zoo's adapters differ by them, or as a generator's do.

    \b
    lora-gen edit my-adapter --zoo my-zoo --toward uppercase --out louder
    lora-gen edit my-adapter --words "keep the digits" --new-words "keep the digits, reversed"
    lora-gen edit my-adapter --prompts inputs.txt --zoo my-zoo --new-words "keep the digits"
    """
    require_free(out, overwrite=overwrite)
    if (toward is None) == (new_words is None):
        raise ConfigError("Say where to: pass either `--toward` with a zoo, or `--new-words`.")
    quiet_libraries()
    from lora_gen.adapter.io import load_adapter, save_adapter

    loaded = load_adapter(adapter)
    if new_words is not None:
        done, found = _by_words(
            loaded, words or _found_words(loaded, zoo, prompts), new_words, (strength, rank)
        )
    else:
        done, found = _by_zoo(loaded, zoo, str(toward), (strength, rank))
    record = {
        "edited_from": str(adapter),
        **found,
        "strength": strength,
        "relative_error_of_rank": done.error,
    }
    save_adapter(done.adapter, out, overwrite=overwrite, provenance=record)
    if json_output:
        print_json({"folder": str(out), **record})
        return
    goal = printable(str(found.get("toward") or found["new_words"]))
    console().print(
        f"Saved {printable(str(out))}: moved {strength:g} towards {goal!r}, "
        f"{printable(_how(found))}. Try it before you use it."
    )


def _how(found: dict[str, Any]) -> str:
    if "words" in found:
        return f"from {found['words']!r}"
    return (
        f"learned from {found['entries_with_it']} adapters with it and {found['entries_without']} "
        "without"
    )


def _by_zoo(
    adapter: Adapter, zoo: Path | None, toward: str, how: tuple[float, int]
) -> tuple[Merged, dict[str, Any]]:
    from lora_gen.weight_space.attributes import entries_by_phrase
    from lora_gen.weight_space.edit import direction_between, edit_adapter
    from lora_gen.zoo.store import Zoo

    if zoo is None:
        raise ConfigError("`--toward` learns a direction from a zoo. Name one with `--zoo`.")
    with Zoo.open(zoo, read_only=True) as opened:
        having, lacking = entries_by_phrase(opened, toward, base=adapter.base)
        sides = [[opened.load(entry_id) for entry_id in side] for side in (having, lacking)]
    done = edit_adapter(adapter, direction_between(*sides), how[0], rank=how[1])
    counts = {"entries_with_it": len(having), "entries_without": len(lacking)}
    return done, {"toward": toward, **counts}


def _by_words(
    adapter: Adapter, words: str, new_words: str, how: tuple[float, int]
) -> tuple[Merged, dict[str, Any]]:
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.assets import default_generator
    from lora_gen.evaluation.inversion import reworded
    from lora_gen.pipeline import LoraGenPipeline

    name = _base_of(adapter)
    pipe = LoraGenPipeline.from_pretrained(default_generator(name))
    spec = BaseModelSpec.from_config(name)
    done = reworded(pipe, adapter, words, new_words, spec=spec, strength=how[0], rank=how[1])
    return done, {"words": words, "new_words": new_words}


def _found_words(adapter: Adapter, zoo: Path | None, prompts: Path | None) -> str:
    """The zoo's description that explains best what the adapter answers."""
    if zoo is None or prompts is None:
        raise ConfigError(
            "`--new-words` needs to know what the adapter does now. Pass `--words`, or inputs with "
            "`--prompts` and a zoo whose descriptions are tried."
        )
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.assets import default_generator
    from lora_gen.cli.rows import read_prompts
    from lora_gen.conditioning.chat import load_causal_lm
    from lora_gen.evaluation.inversion import candidate_words, nearest_words, own_answers
    from lora_gen.pipeline import LoraGenPipeline
    from lora_gen.zoo.store import Zoo

    name = _base_of(adapter)
    examples = own_answers(adapter, read_prompts(prompts), base=name)
    with Zoo.open(zoo, read_only=True) as opened:
        texts = candidate_words(opened, [adapter])[0]
    pipe = LoraGenPipeline.from_pretrained(default_generator(name))
    spec = BaseModelSpec.from_config(name)
    return nearest_words(pipe, load_causal_lm(name), texts, examples, spec=spec)[0][0]


def _base_of(adapter: Adapter) -> str:
    if adapter.base is None:
        raise ConfigError("The adapter does not name its base, so no generator fits it.")
    from lora_gen.adapter.named_base import resolve_named_base

    resolve_named_base(adapter.base)
    return adapter.base
