"""`lora-gen inspect`: what an adapter is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, print_table, printable, quiet_libraries

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter

Top = Annotated[
    int, typer.Option("--top", min=0, help="Modules to list, largest change first; 0 for all.")
]


def inspect(
    adapter: options.AdapterFolder,
    *,
    base: options.Base = None,
    top: Top = 20,
    json_output: options.Json = False,
) -> None:
    """Show an adapter's base, ranks, and how much it changes each module.

    \b
    lora-gen inspect my-adapter
    lora-gen inspect my-adapter --base tiny_lm --top 0
    lora-gen inspect downloaded.safetensors --json
    """
    quiet_libraries()
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.adapter.io import load_adapter, recognize

    kind, _ = recognize(adapter)
    spec = None if base is None else BaseModelSpec.from_config(base)
    report = {"format": kind, **_describe(load_adapter(adapter, base=spec))}
    if json_output:
        print_json(report)
        return
    modules = report.pop("modules")
    for name, value in report.items():
        console().print(f"{name.replace('_', ' ')}: {printable(_shown(value))}")
    rows = [[_shown(value) for value in module.values()] for module in modules]
    header = [name.replace("_", " ") for name in modules[0]]
    print_table(rows[: top or None], header=header)
    if top and len(rows) > top:
        console().print(f"{len(rows) - top} more; --top 0 lists all.")


def _describe(adapter: Adapter) -> dict[str, Any]:
    """Facts that hold for every gauge of the factors; modules by the size of their change."""
    from lora_gen.adapter.algebra import norm, singular_values

    modules: list[dict[str, Any]] = []
    for name, singular in singular_values(adapter).items():
        pair = adapter.pairs[name]
        largest = float(singular.max())
        modules.append(
            {
                "module": name,
                "out": pair.out_features,
                "in": pair.in_features,
                "rank": pair.rank,
                "used_rank": int((singular > 1e-6 * largest).sum()) if largest > 0 else 0,
                "scaling": pair.scaling,
                "delta_norm": float(singular.norm()),
            }
        )
    modules.sort(key=lambda module: -module["delta_norm"])
    return {
        "base": adapter.base,
        "task_type": adapter.task_type,
        "rank": adapter.max_rank,
        "parameters": adapter.num_parameters,
        "delta_norm": norm(adapter),
        "modules_without_effect": [m["module"] for m in modules if m["delta_norm"] == 0],
        "modules": modules,
    }


def _shown(value: object) -> str:
    """A value as a person reads it."""
    if value is None:
        return "not named"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
