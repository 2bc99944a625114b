"""`lora-gen choose`: rank and target modules before training, within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, print_table, quiet_libraries
from lora_gen.errors import ZooError

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.pipeline import LoraGenPipeline

SHOWN = 5
"""Options in the answer."""
Budget = Annotated[
    int, typer.Option("--budget", min=1, help="Most parameters that are to be trained.")
]


def choose(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the adapter should do.")],
    *,
    budget: Budget,
    base: Annotated[str, typer.Option("--base", help="The base to be trained.")] = "tiny_lm",
    zoo: Annotated[
        Path | None, typer.Option("--zoo", help="Zoo to learn from. Default: the embedded one.")
    ] = None,
    neighbors: Annotated[
        int, typer.Option("--neighbors", min=0, max=64, help="Nearest entries of the zoo.")
    ] = 8,
    candidates: Annotated[
        int, typer.Option("--candidates", min=0, max=16, help="Generated adapters.")
    ] = 2,
    generator: options.Generator = None,
    json_output: options.Json = False,
) -> None:
    """Propose rank and target modules for a task before training, within a parameter budget.

    Example: lora-gen choose "mask all but the last four digits" --budget 20000
    """
    quiet_libraries()
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.assets import default_generator
    from lora_gen.pipeline import LoraGenPipeline
    from lora_gen.weight_space.choose import options_within, ranked_options

    spec = BaseModelSpec.from_config(base)
    found = options_within(spec, budget)
    pipe = LoraGenPipeline.from_pretrained(generator or default_generator(base))
    near = _nearest(text, zoo, spec, pipe, neighbors)
    made = _candidates(text, spec, pipe, candidates)
    choices = ranked_options(found, [*near, *made])
    rows = [
        {
            "rank": one.option.rank,
            "target_modules": one.option.targets,
            "parameters": one.option.parameters,
            "kept": round(one.kept, 4),
        }
        for one in choices[:SHOWN]
    ]
    if json_output:
        print_json({"text": text, "budget": budget, "from_zoo": len(near), "options": rows})
        return
    print_table(
        [(r["rank"], r["target_modules"], r["parameters"], f"{r['kept']:.0%}") for r in rows],
        header=("rank", "target modules", "parameters", "energy kept"),
    )
    console().print(
        f"Best first, by what {len(near)} adapters of like tasks and {len(made)} generated ones "
        "would keep. A proposal, not a measurement: see docs/weight_space.md for its regret."
    )


def _nearest(
    text: str, zoo: Path | None, spec: BaseModelSpec, pipe: LoraGenPipeline, count: int
) -> list[Adapter]:
    from lora_gen.assets import asset_path
    from lora_gen.evaluation.baselines.nearest import NearestText
    from lora_gen.zoo.store import Zoo

    if count == 0:
        return []
    with Zoo.open(zoo or asset_path("tiny_lm", "zoo"), read_only=True) as opened:
        ids = [entry.id for entry in opened.entries(base=spec.id)]
        if not ids:
            raise ZooError(
                f"The zoo has no adapter of `{spec.id}`. Name another with `--zoo`, or pass "
                "`--neighbors 0`."
            )
        found = NearestText(opened, ids, pipe.encoder, wordings=1).neighbors([text], count)[0]
        return [opened.load(entry_id) for entry_id, _ in found]


def _candidates(text: str, spec: BaseModelSpec, pipe: LoraGenPipeline, count: int) -> list[Adapter]:
    import torch

    if count == 0 or spec.id not in pipe.denoiser.config.trained_bases:
        return []
    source = torch.Generator().manual_seed(0)
    return list(pipe(text, base=spec, num_adapters=count, generator=source).adapters)
