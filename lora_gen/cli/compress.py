"""`lora-gen compress`: an adapter at a smaller rank, or in fewer bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, printable, quiet_libraries, require_free
from lora_gen.errors import ConfigError, OutputPathError

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter


def compress(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="Adapter, or what --bits wrote.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder, or with --bits a file.")],
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="Rank of every module.")] = None,
    energy: Annotated[
        float | None, typer.Option("--energy", help="Share of the squared norm to keep, up to 1.")
    ] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", help="4 or 8: one .safetensors file of codes.")
    ] = None,
    exact: options.Exact = False,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Make an adapter smaller, and say how far it is from what it was.

    \b
    lora-gen compress big --rank 16 --out small
    lora-gen compress big --energy 0.95 --exact --out small
    lora-gen compress big --bits 4 --out big.4bit.safetensors
    lora-gen compress big.4bit.safetensors --out big-again      codes become an adapter folder
    """
    quiet_libraries()
    from lora_gen.adapter.io import load_adapter, save_adapter
    from lora_gen.weight_space.quantize import is_quantized, load_quantized

    packed = is_quantized(adapter)
    if rank is None and energy is None and bits is None and not packed:
        raise ConfigError("There is nothing to do. Pass `--rank`, `--energy` or `--bits`.")
    if bits is None:
        require_free(out, overwrite=overwrite)
    loaded = load_quantized(adapter).dequantized() if packed else load_adapter(adapter)
    small, record = _smaller(loaded, rank, energy)
    if bits is not None:
        record |= _write_codes(small, out, bits, overwrite=overwrite)
    else:
        save_adapter(small, out, exact=exact, overwrite=overwrite, provenance=record)
    record = {"out": str(out), "made_from": str(adapter), **record}
    if json_output:
        print_json(record)
        return
    console().print(
        f"Saved {printable(str(out))}: {small.num_parameters:,} of {loaded.num_parameters:,} "
        f"values, {record['relative_error']:.2%} away."
    )


def _smaller(
    adapter: Adapter, rank: int | None, energy: float | None
) -> tuple[Adapter, dict[str, object]]:
    from lora_gen.weight_space.compress import compress_adapter

    if rank is None and energy is None:
        return adapter, {"relative_error": 0.0}
    done = compress_adapter(adapter, rank=rank, energy=energy)
    return done.adapter, {"relative_error": done.error, "ranks": dict(done.ranks)}


def _write_codes(adapter: Adapter, out: Path, bits: int, *, overwrite: bool) -> dict[str, object]:
    from lora_gen.adapter.algebra import add, norm
    from lora_gen.weight_space.quantize import quantize_adapter, save_quantized

    if bits not in (4, 8):
        raise ConfigError(f"`--bits` is {bits}; factors are kept in 4 or 8.")
    if out.suffix != ".safetensors" or out.is_dir():
        raise OutputPathError(f"`{out}` is not a .safetensors file. Name one with `--out`.")
    if out.exists() and not overwrite:
        raise OutputPathError(f"`{out}` already exists. Pass `--overwrite` to replace it.")
    quantized = quantize_adapter(adapter, bits=4 if bits == 4 else 8)
    save_quantized(quantized, out)
    apart = norm(add([quantized.dequantized(), adapter], [1.0, -1.0]))
    return {"bits": bits, "bytes": quantized.num_bytes, "relative_error": apart / norm(adapter)}
