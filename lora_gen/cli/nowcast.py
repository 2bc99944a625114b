"""`lora-gen nowcast`: the adapter that a run will have some steps later."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, printable, quiet_libraries, require_free
from lora_gen.errors import AdapterMismatchError

Others = Annotated[
    list[Path],
    typer.Option("--learn-from", help="A finished run of the same kind; name several."),
]


def nowcast(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder with checkpoint-STEP folders of a LoRA.")
    ],
    *,
    learn_from: Others,
    ahead: Annotated[int, typer.Option("--ahead", min=1, help="Checkpoints to look ahead.")] = 2,
    differences: Annotated[
        int, typer.Option("--differences", min=1, max=8, help="Last differences to go by.")
    ] = 2,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("nowcast"),
    save: Annotated[
        Path | None, typer.Option("--save", help="Also keep what was learned, for the callback.")
    ] = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Predict a run's later weights from its last checkpoints, as finished runs went on.

    Example: lora-gen nowcast my-run --learn-from run-a --learn-from run-b --ahead 3 --out ahead
    """
    require_free(out, overwrite=overwrite)
    quiet_libraries()
    from lora_gen.adapter.io import save_adapter
    from lora_gen.weight_space.nowcast import fit_nowcast
    from lora_gen.weight_space.runs import load_run

    mine, others = load_run(run), [load_run(folder) for folder in learn_from]
    odd = next((i for i, other in enumerate(others) if other.spacing != mine.spacing), None)
    if odd is not None:
        raise AdapterMismatchError(
            f"`{learn_from[odd]}` has a checkpoint every {others[odd].spacing} steps, and `{run}` "
            f"every {mine.spacing}. Learn from runs with the same spacing."
        )
    learned = fit_nowcast(
        [other.checkpoints for other in others],
        spacing=mine.spacing,
        ahead=ahead,
        differences=differences,
    )
    adapter = learned.predict(mine.checkpoints)
    if save is not None:
        learned.save(save)
    record = {
        "nowcast_from": str(run),
        "step": mine.last_step,
        "predicted_step": mine.last_step + learned.horizon,
        "learned_from": [str(folder) for folder in learn_from],
    }
    save_adapter(adapter, out, overwrite=overwrite, provenance=record)
    if json_output:
        print_json({"folder": str(out), **record})
        return
    console().print(
        f"Saved {printable(str(out))}: step {record['predicted_step']} as predicted at step "
        f"{mine.last_step}. Measure it beside the last checkpoint before you train on."
    )
