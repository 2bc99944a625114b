"""Behavior against bytes: ranks, energies, int8, 4 bits and a shared basis, on held-out tasks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.profile import cast_factors
from lora_gen.weight_space.basis import SharedBasis
from lora_gen.weight_space.compress import compress_adapter
from lora_gen.weight_space.quantize import Bits, quantize_adapter
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, interval, save

TASKS, ZOO, BASIS_SIZES = 32, 128, (16, 32, 64)
LLAMA_8B = {  # module -> (out, in), 32 layers of each
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}

Made = tuple[Adapter, float]
"""An adapter and its bytes."""


def _halved(adapter: Adapter) -> Made:
    return cast_factors(adapter, torch.float16), 2.0 * adapter.num_parameters


def _quantized(bits: Bits, rank: int) -> Callable[[Adapter], Made]:
    def make(adapter: Adapter) -> Made:
        packed = quantize_adapter(compress_adapter(adapter, rank=rank).adapter, bits=bits)
        return packed.dequantized(), float(packed.num_bytes)

    return make


def ways() -> dict[str, Callable[[Adapter], Made]]:
    """Every way to make an adapter small that needs nothing but the adapter."""
    found: dict[str, Callable[[Adapter], Made]] = {
        f"rank {rank}, float16": lambda a, r=rank: _halved(compress_adapter(a, rank=r).adapter)
        for rank in (4, 3, 2, 1)
    }
    for energy in (0.95, 0.8):
        found[f"energy {energy:g}, float16"] = lambda a, e=energy: _halved(
            compress_adapter(a, energy=e).adapter
        )
    for bits, rank in ((8, 4), (8, 2), (4, 4), (4, 2)):
        found[f"rank {rank}, int{bits}"] = _quantized(8 if bits == 8 else 4, rank)
    return found


def measure(bench: Bench) -> dict[str, Any]:
    """Exact match and bytes of each way, and its loss against the adapter as it was."""
    tasks = bench.tasks(HELD_OUT, TASKS)
    tests = [task.tests for task in tasks]
    whole = bench.scores([task.adapter for task in tasks], tests)
    report: dict[str, Any] = {"tasks": len(tasks), "inputs": bench.inputs, "rows": {}}
    made = {name: [way(task.adapter) for task in tasks] for name, way in ways().items()}
    seen = [task.adapter for task in bench.tasks(("seen",), ZOO)]
    for size in BASIS_SIZES:
        basis = SharedBasis.fit(seen, size)
        a_bytes = (basis.num_bytes(1000) - basis.num_bytes(0)) / 1000
        made[f"shared basis {size}"] = [
            (basis.decode(basis.encode(t.adapter), t.adapter, rank=4), a_bytes) for t in tasks
        ]
    for name, found in made.items():
        values = bench.scores([adapter for adapter, _ in found], tests)
        report["rows"][name] = {
            "bytes": round(sum(size for _, size in found) / len(found)),
            "exact_match": interval(values),
            "loss": interval([a - b for a, b in zip(whole, values, strict=True)]),
        }
        print(name, report["rows"][name], flush=True)
        save("compress", report)
    return report


def resize_8b(layers: int = 4) -> dict[str, float]:
    """CPU seconds of one core for an 8B adapter from rank 64 to 16, from some of its layers."""
    source = torch.Generator().manual_seed(0)
    seconds = 0.0
    for layer in range(layers):
        pairs = {
            f"model.layers.{layer}.{name}": LoraPair(
                lora_a=torch.randn(64, width, generator=source) / math.sqrt(width),
                lora_b=torch.randn(out, 64, generator=source),
            )
            for name, (out, width) in LLAMA_8B.items()
        }
        started = time.process_time()
        compress_adapter(Adapter(pairs=pairs), rank=16)
        seconds += time.process_time() - started
    return {"cpu_seconds": round(seconds * 32 / layers, 1), "layers_timed": layers}


if __name__ == "__main__":
    torch.set_num_threads(1)
    timed = resize_8b()
    print(timed, flush=True)
    save("resize_8b", timed)
    measure(Bench())
