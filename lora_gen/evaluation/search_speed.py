"""How long features and search take: an adapter of an 8B base, and tables of synthetic vectors.

python -m lora_gen.evaluation.search_speed --rows 10000 100000 --out speed.json
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.files import atomic_write_json
from lora_gen.retrieval.features import module_features
from lora_gen.retrieval.index import LanceTable
from lora_gen.retrieval.table import Filters
from lora_gen.retrieval.vectors import SIGNATURE_WIDTH, VectorRow

_MODULES_8B = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}
_LAYERS_8B = 32
_TEXT_WIDTH = 384
_QUERIES, _ADDED = 100, 20


def adapter_8b(rank: int) -> Adapter:
    """Random factors in bfloat16 on every linear module of an 8B Llama."""
    pairs = {
        f"model.layers.{layer}.{name}": LoraPair(
            lora_a=torch.randn(rank, in_features, dtype=torch.bfloat16),
            lora_b=torch.randn(out_features, rank, dtype=torch.bfloat16),
        )
        for layer in range(_LAYERS_8B)
        for name, (out_features, in_features) in _MODULES_8B.items()
    }
    return Adapter(pairs=pairs, base="synthetic/8b")


def encode_speed(rank: int) -> dict[str, float]:
    """Core-seconds of the second call (the first draws the frames), and memory in MB.

    Memory is the adapter itself and what the calls add to the largest resident set.
    """
    adapter = adapter_8b(rank)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    module_features(adapter)
    started = time.process_time()
    module_features(adapter)
    seconds = time.process_time() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    file_mb = adapter.num_parameters * 2 / 2**20
    return {
        "rank": rank,
        "core_seconds": seconds,
        "file_mb": file_mb,
        "memory_mb": file_mb + (after - before) / 2**10,
    }


def search_speed(rows: int, folder: Path) -> dict[str, Any]:
    """Seconds to fill, open, search and add to a table of synthetic unit vectors.

    Opening includes the first search, which reads the vectors; one adapter is then added at a time,
    each a commit of its own.
    """
    random = np.random.default_rng(0)
    table = LanceTable(folder, f"speed_{rows}")
    started = time.perf_counter()
    for start in range(0, rows, 5000):
        table.add([_row(random, start + i) for i in range(min(5000, rows - start))])
    filled = time.perf_counter() - started
    table.compact()
    started = time.perf_counter()
    table = LanceTable(folder, f"speed_{rows}")
    table.created()
    table.search("text", _unit(random, _TEXT_WIDTH), 10, Filters())
    opened = time.perf_counter() - started
    times = []
    for _ in range(_QUERIES):
        query = _unit(random, _TEXT_WIDTH)
        started = time.perf_counter()
        table.search("text", query, 10, Filters(base="base 1"))
        times.append(time.perf_counter() - started)
    p50, p95 = (float(np.quantile(times, share)) for share in (0.5, 0.95))
    single = []
    for i in range(_ADDED):
        row = _row(random, rows + i)
        started = time.perf_counter()
        table.add([row])
        single.append(time.perf_counter() - started)
    return {
        "rows": rows,
        "fill_ms_each": 1000 * filled / rows,
        "add_one_p95_ms": 1000 * float(np.quantile(single, 0.95)),
        "open_s": opened,
        "search_p50_ms": 1000 * p50,
        "search_p95_ms": 1000 * p95,
    }


def _row(random: np.random.Generator, number: int) -> VectorRow:
    return VectorRow(
        id=f"{number:040x}",
        created="2026-01-01T00:00:00+00:00",
        base=f"base {number % 3}",
        rank=8,
        accuracy=0.5,
        text=_unit(random, _TEXT_WIDTH),
        signature=_unit(random, SIGNATURE_WIDTH),
        weights=_unit(random, 256),
    )


def _unit(random: np.random.Generator, width: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    drawn = random.standard_normal(width).astype(np.float32)
    return drawn / np.linalg.norm(drawn)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--ranks", type=int, nargs="*", default=[16, 64])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"encode": [encode_speed(rank) for rank in args.ranks]}
    with tempfile.TemporaryDirectory() as folder:
        found["search"] = [search_speed(rows, Path(folder)) for rows in args.rows]
    for kind in ("encode", "search"):
        for line in found[kind]:
            print(kind, {key: round(value, 3) for key, value in line.items()})
    if args.out:
        atomic_write_json(args.out, found)


if __name__ == "__main__":
    main()
