"""`lora-gen refine`: fine-tune an adapter on a few examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, printable, quiet_libraries, require_free
from lora_gen.cli.rows import read_examples
from lora_gen.errors import ConfigError

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter

Start = Annotated[
    Path | None,
    typer.Argument(metavar="[ADAPTER]", help="Adapter to start from. Default: a fresh one."),
]
Examples = Annotated[
    Path,
    typer.Option("--examples", help="Input-output pairs: .csv or .tsv of two columns, or .jsonl."),
]
Steps = Annotated[int, typer.Option("--steps", min=1, max=100_000, help="Optimizer steps.")]
Rate = Annotated[float, typer.Option("--lr", help="Learning rate of Adam at its peak.")]
Batch = Annotated[int, typer.Option("--batch", min=1, max=1024, help="Examples a step.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Draws the examples.")]
Rank = Annotated[int, typer.Option("--rank", min=1, max=512, help="LoRA rank of a fresh one.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]


def refine(
    adapter: Start = None,
    *,
    examples: Examples,
    base: options.Base = None,
    steps: Steps = 48,
    lr: Rate = 1e-2,
    batch: Batch = 4,
    seed: Seed = 0,
    rank: Rank = 4,
    out: Out = Path("refined"),
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Fine-tune an adapter on examples with PEFT; a generated one needs far fewer steps.

    \b
    lora-gen refine my-adapter --examples pairs.csv --out better
    lora-gen refine --base tiny_lm --examples pairs.csv --out trained      from nothing
    """
    require_free(out, overwrite=overwrite)
    pairs = read_examples(examples)
    quiet_libraries()
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.adapter.io import load_adapter, save_adapter
    from lora_gen.evaluation.fitting import FitConfig
    from lora_gen.evaluation.refine import refine as run

    config = FitConfig(steps=steps, lr=lr, batch=batch, seed=seed)
    start = load_adapter(adapter) if adapter is not None else _fresh(base, rank, seed)
    spec = BaseModelSpec.from_config(base or start.base) if base or start.base else None
    done = run(start, pairs, base=base, config=config)
    record: dict[str, Any] = {
        "refined_from": str(adapter) if adapter is not None else "a fresh adapter",
        "base": done.adapter.base,
        "examples": len(pairs),
        "steps": steps,
        "lr": lr,
        "batch": batch,
        "seed": seed,
        "first_loss": done.losses[0],
        "last_loss": done.losses[-1],
    }
    save_adapter(done.adapter, out, base=spec, overwrite=overwrite, provenance=record)
    if json_output:
        print_json({"folder": str(out), **record})
        return
    console().print(
        f"Saved {printable(str(out))}: {steps} steps on {len(pairs)} examples, loss "
        f"{done.losses[0]:.3f} to {done.losses[-1]:.3f}."
    )


def _fresh(base: str | None, rank: int, seed: int) -> Adapter:
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.evaluation.fitting import fresh_adapter

    if base is None:
        raise ConfigError(
            "There is nothing to start from. Name an adapter, or a base with `--base`."
        )
    return fresh_adapter(BaseModelSpec.from_config(base), rank=rank, seed=seed)
