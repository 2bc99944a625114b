"""`lora-gen generate`: a description, inputs or examples in; adapters out, and tried at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_gen.cli import options
from lora_gen.cli.best import best_of, require_choice
from lora_gen.cli.card import generated_card
from lora_gen.cli.common import (
    console,
    print_answers,
    print_json,
    printable,
    quiet_libraries,
    quiet_pipelines,
    require_free,
)
from lora_gen.cli.generate_large import streamed
from lora_gen.cli.rows import read_examples, read_prompts
from lora_gen.errors import ConditionError

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter
    from lora_gen.adapter.base_model import BaseModelSpec


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one call of the generator is asked for."""

    text: str | None
    prompts: list[str] | None
    examples: list[tuple[str, str]] | None
    base: str | None
    rank: int
    target: str | list[str] | None
    num: int
    best: bool
    steps: int | None
    guidance: float | None
    seed: int
    generator: str | None
    allow_untrained: bool


@dataclass(frozen=True, kw_only=True)
class Written:
    """How and where adapters are written."""

    out: Path
    format: str | None
    """Default: what the base's own library reads."""
    exact: bool
    overwrite: bool


Text = Annotated[
    str | None, typer.Argument(metavar="TEXT", help="What the base should do, in plain English.")
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        "--prompts", help="Unlabeled inputs, one a line (.txt) or as JSON lines (.jsonl)."
    ),
]
Examples = Annotated[
    Path | None,
    typer.Option("--examples", help="Input-output pairs: .csv or .tsv of two columns, or .jsonl."),
]
Rank = Annotated[int, typer.Option("--rank", min=1, max=512, help="LoRA rank.")]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="all-linear, attention, mlp, or names such as q_proj,v_proj. "
        "Default: the generator's own.",
    ),
]
Num = Annotated[
    int,
    typer.Option("--num", min=1, max=64, help="Number of adapters; several go to OUT/0, OUT/1, …"),
]
Best = Annotated[
    bool,
    typer.Option("--best", help="Keep one of --num candidates: the best on the --examples."),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, max=1000, help="Sampler steps. Default: the generator's own."),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        min=0.0,
        max=100.0,
        help="Guidance scale; 1 is none. Default: the generator's own.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Same seed, same bytes.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
AllowUntrained = Annotated[
    bool,
    typer.Option(
        "--allow-untrained",
        help="Accept a base that the generator was not trained for, at random quality.",
    ),
]
Try = Annotated[
    list[str] | None,
    typer.Option(
        "--try",
        metavar="INPUT",
        help="Input to answer at once; may be repeated. For a base that draws, what to draw: "
        "the contact sheet OUT.png shows the base beside the adapters.",
    ),
]


def generate(
    text: Text = None,
    *,
    prompts: Prompts = None,
    examples: Examples = None,
    base: options.Base = None,
    rank: Rank = 4,
    target: Target = None,
    num: Num = 1,
    best: Best = False,
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    out: Out = Path("my-adapter"),
    try_inputs: Try = None,
    generator: options.Generator = None,
    allow_untrained: AllowUntrained = False,
    format: Annotated[options.FolderFormat | None, options.FORMAT] = None,
    exact: options.Exact = False,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Generate LoRA adapters from a description, from inputs, from examples, or from any mix.

    \b
    lora-gen generate "keep only the digits" --out digits --try "(415) 555-0132"
    lora-gen generate "shorten the name" --num 8 --best --examples pairs.csv --out learned
    lora-gen generate "write the date as day, month name and year" --num 4 --seed 7 --out dates
    lora-gen generate "by urgency: urgent, soon or can wait" --base minilm --out urgent
    lora-gen generate "thick black outlines" --base tiny_sd --out style --try "two red circles"
    """
    require_free(out, overwrite=overwrite)
    asked = Asked(
        text=text,
        prompts=None if prompts is None else read_prompts(prompts),
        examples=None if examples is None else read_examples(examples),
        base=base,
        rank=rank,
        target=_target(target),
        num=num,
        best=best,
        steps=steps,
        guidance=guidance,
        seed=seed,
        generator=generator,
        allow_untrained=allow_untrained,
    )
    _check(asked)
    quiet_libraries()
    where = Written(out=out, format=format and format.value, exact=exact, overwrite=overwrite)
    if not streamed(asked, where, json_output=json_output):
        _generate(asked, where, try_inputs or [], json_output=json_output)


def _generate(asked: Asked, where: Written, inputs: list[str], *, json_output: bool) -> None:
    """Sample, save, try and show adapters that fit in memory."""
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.cli.pictures import draw_sheet, sheet_record, show_use

    adapters, provenance = sample(asked)
    spec = BaseModelSpec.from_config(provenance[0]["base"])
    folders = save(adapters, provenance, where, spec)
    draws = spec.kind == "diffusers"
    sheet = draw_sheet(spec.id, adapters, inputs, where.out) if draws and inputs else None
    answers = _try(spec.id, adapters, [] if draws else inputs)
    if json_output:
        print_json(_report(folders, adapters, provenance, answers) | sheet_record(sheet))
    else:
        _show(folders, adapters, answers)
        embeds = not draws and spec.task_type is None  # no head, so what comes out are states
        show_use(folders[0], sheet=sheet, draws=draws, embeds=embeds)


def _target(value: str | None) -> str | list[str] | None:
    """A group's name, or the listed suffixes."""
    if value is None:
        return None
    names = [name.strip() for name in value.split(",") if name.strip()]
    return names if "," in value else value.strip()


def _check(asked: Asked) -> None:
    """Refuse what no generator can use, before a model is loaded."""
    from lora_gen.conditioning.text import check_text

    if asked.text is None and asked.prompts is None and asked.examples is None:
        raise ConditionError(
            "There is nothing to generate from. Describe the task as TEXT, or pass `--prompts` or "
            "`--examples`."
        )
    if asked.text is not None:
        check_text(asked.text)
    if asked.best:
        require_choice(asked.num, asked.examples)


def sample(asked: Asked, pipe: Any = None) -> tuple[list[Adapter], list[dict[str, Any]]]:
    """The adapters and how each was made; `pipe` where a generator is loaded already."""
    import torch

    from lora_gen.assets import default_generator
    from lora_gen.pipeline import LoraGenPipeline

    quiet_pipelines()
    source = asked.generator or default_generator(asked.base)
    pipe = pipe or LoraGenPipeline.from_pretrained(source)
    with _progress(asked.steps) as advance:
        output = pipe(
            text=asked.text,
            prompts=asked.prompts,
            examples=asked.examples,
            base=asked.base,
            rank=asked.rank,
            targets=asked.target,
            num_adapters=asked.num,
            num_inference_steps=asked.steps,
            guidance_scale=asked.guidance,
            generator=torch.Generator().manual_seed(asked.seed),
            callback_on_step_end=advance,
            allow_untrained=asked.allow_untrained,
        )
    if asked.best:
        return best_of(output.adapters, output.provenance, asked.examples or [])
    return list(output.adapters), list(output.provenance)


@contextmanager
def _progress(steps: int | None) -> Iterator[Callable[..., dict[str, Any]]]:
    """A bar on stderr, and the callback that moves it by a sampler step."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=steps)

        def advance(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            total = steps or len(pipe.scheduler.timesteps)
            bar.update(task, completed=step + 1, total=total)
            return kwargs

        yield advance


def save(
    adapters: Sequence[Adapter],
    provenance: Sequence[dict[str, Any]],
    where: Written,
    spec: BaseModelSpec,
) -> list[Path]:
    """Folders of the written adapters; several appear together or not at all."""
    from lora_gen.adapter.io import save_adapter
    from lora_gen.files import publish_folder

    extras: list[dict[str, Any]] = [
        {
            "format": where.format or ("diffusers" if spec.kind == "diffusers" else "peft"),
            "exact": where.exact,
            "base": spec,
            "provenance": record,
            "card": generated_card(spec, record),
        }
        for record in provenance
    ]
    if len(adapters) == 1:
        save_adapter(adapters[0], where.out, overwrite=where.overwrite, **extras[0])
        return [where.out]
    with publish_folder(where.out, where.overwrite) as temp:
        for i, (adapter, extra) in enumerate(zip(adapters, extras, strict=True)):
            save_adapter(adapter, temp / str(i), **extra)
    return [where.out / str(i) for i in range(len(adapters))]


def _try(base: str, adapters: Sequence[Adapter], inputs: list[str]) -> list[list[dict[str, str]]]:
    """For each adapter, what it and the base answer to each input."""
    if not inputs:
        return [[] for _ in adapters]
    from lora_gen.cli.answers import Answerer

    answerer = Answerer(base, inputs)
    return [answerer.answers(adapter) for adapter in adapters]


def _report(
    folders: Sequence[Path],
    adapters: Sequence[Adapter],
    provenance: Sequence[dict[str, Any]],
    answers: Sequence[list[dict[str, str]]],
) -> dict[str, Any]:
    """The JSON document of a call."""
    records = [
        {
            "folder": str(folder),
            "rank": adapter.max_rank,
            "modules": len(adapter.pairs),
            "answers": tried,
            "provenance": record,
        }
        for folder, adapter, tried, record in zip(
            folders, adapters, answers, provenance, strict=True
        )
    ]
    return {"base": provenance[0]["base"], "adapters": records}


def _show(
    folders: Sequence[Path],
    adapters: Sequence[Adapter],
    answers: Sequence[list[dict[str, str]]],
) -> None:
    for folder, adapter, tried in zip(folders, adapters, answers, strict=True):
        if tried:
            print_answers(tried, title=str(folder) if len(folders) > 1 else None)
        name = printable(str(folder))
        console().print(f"Saved {name}: rank {adapter.max_rank}, {len(adapter.pairs)} modules.")
