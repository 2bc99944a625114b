"""`lora-gen merge`: several adapters as one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, printable, quiet_libraries, require_free
from lora_gen.cli.rows import read_examples
from lora_gen.errors import ConfigError

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter
    from lora_gen.weight_space.merge import Merged


class Method(StrEnum):
    """How adapters are merged."""

    linear = "linear"
    task_arithmetic = "task_arithmetic"
    ties = "ties"
    dare = "dare"
    dare_ties = "dare_ties"
    knots = "knots"
    tsv = "tsv"
    isotropic = "isotropic"
    geodesic = "geodesic"


Adapters = Annotated[
    list[Path], typer.Argument(metavar="ADAPTER...", help="Adapters to merge, of one base.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Rank = Annotated[
    int | None,
    typer.Option("--rank", min=1, max=512, help="Rank of the result. Default: the ranks' sum."),
]


def merge(
    adapters: Adapters,
    *,
    out: Out = Path("merged"),
    weights: Annotated[
        list[float] | None,
        typer.Option("--weights", help="One for each adapter, in order; below 0 takes it away."),
    ] = None,
    method: Annotated[Method, typer.Option("--method", help="How.")] = Method.linear,
    rank: Rank = None,
    examples: Annotated[
        list[Path] | None,
        typer.Option("--examples", help="Pairs of each adapter: merge on what it does there."),
    ] = None,
    density: Annotated[
        float | None, typer.Option("--density", help="Share of entries kept (TIES, DARE, KnOTS).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws what DARE drops.")] = 0,
    exact: options.Exact = False,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Merge adapters of one base on their delta weights, and say what the rank cut.

    \b
    lora-gen merge a b --weights 0.3 --weights 0.7 --out both
    lora-gen merge a b c d --method tsv --rank 16 --out all
    lora-gen merge a b --examples a.csv --examples b.csv --out both     needs the base
    lora-gen merge a b --method task_arithmetic --weights 1 --weights -0.5 --out a-less-b
    """
    require_free(out, overwrite=overwrite)
    quiet_libraries()
    from lora_gen.adapter.io import load_adapter, save_adapter
    from lora_gen.weight_space.merge import merge_adapters

    loaded = [load_adapter(folder) for folder in adapters]
    if examples:
        _require_nothing_else(weights, density, method)
        merged = _on_examples(loaded, examples, rank)
    else:
        merged = merge_adapters(
            loaded, weights, method=method.value, rank=rank, density=density, seed=seed
        )
    record = {
        "merged_from": [str(folder) for folder in adapters],
        "weights": weights,
        "method": "regression" if examples else method.value,
        "rank": merged.adapter.max_rank,
        "relative_error_of_rank": merged.error,
    }
    save_adapter(merged.adapter, out, exact=exact, overwrite=overwrite, provenance=record)
    if json_output:
        print_json({"folder": str(out), **record})
        return
    console().print(
        f"Saved {printable(str(out))}: {len(adapters)} adapters by {record['method']} at rank "
        f"{merged.adapter.max_rank}, which leaves out {merged.error:.2%} of the result."
    )


def _require_nothing_else(
    weights: list[float] | None, density: float | None, method: Method
) -> None:
    """Check that no option of the other methods was given beside `--examples`.

    Raises:
        ConfigError: One was.
    """
    if weights or density or method is not Method.linear:
        raise ConfigError(
            "`--examples` is a method of its own. Leave `--weights`, `--method` and `--density` "
            "out."
        )


def _on_examples(adapters: list[Adapter], files: list[Path], rank: int | None) -> Merged:
    from lora_gen.adapter.named_base import resolve_named_base
    from lora_gen.evaluation.merging import merge_on_examples

    name = adapters[0].base
    base = None if name is None else resolve_named_base(name)
    return merge_on_examples(adapters, [read_examples(f) for f in files], base=base, rank=rank)
