"""Find styles by description from weights alone: kernel ridge regression of texts on weights.

    python -m recipes.tiny_sd.retrieval --zoo build/tiny_sd/zoo --out build/tiny_sd/reports

The kernel is the cosine of two adapters' delta weights, exact by r-by-r algebra; what it predicts
is the mean text vector of an adapter's descriptions, learned from the styles of `seen`. Each unseen
style is then looked for among all adapters, seen ones included, by one of its descriptions; its own
pictures, name and prompts are not used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.stack import AdapterStack
from lora_gen.conditioning.text import TextEncoder
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.files import atomic_write_json
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo

RIDGE = 0.03
"""Penalty of the regression; adapters have cosine 1 with themselves."""

NEAR = (1, 10)
PARTS = ("unseen_composition", "unseen_argument", "unseen_primitive")


def predicted_texts(kernel_BB: Tensor, texts_BS: Tensor, seen_B: Tensor) -> Tensor:
    """A unit text vector for each adapter, (B, S), around the mean text of the seen ones.

    Args:
        kernel_BB: Cosines of delta weights.
        texts_BS: Text vectors; only those of seen adapters are read.
        seen_B: Which adapters may be learned from.
    """
    center_S = texts_BS[seen_B].mean(0)
    penalty = RIDGE * torch.eye(int(seen_B.sum()), dtype=kernel_BB.dtype)
    weights = torch.linalg.solve(
        kernel_BB[seen_B][:, seen_B] + penalty, texts_BS[seen_B] - center_S
    )
    return torch.nn.functional.normalize(kernel_BB[:, seen_B] @ weights, dim=1)


def ranks(queries_QS: Tensor, gallery_BS: Tensor, own_Q: Tensor) -> Tensor:
    """How many of the gallery are nearer to each query than its own adapter, (Q,)."""
    scores_QB = torch.nn.functional.normalize(queries_QS, dim=1) @ gallery_BS.mT
    return (scores_QB > scores_QB.gather(1, own_Q[:, None])).sum(1)


def measure(zoo: Zoo, encoder: TextEncoder) -> dict[str, Any]:
    """Shares of unseen styles found first and among ten, with intervals, by split and in all."""
    entries = sorted(zoo.entries(), key=lambda entry: entry.task)
    stack = AdapterStack([zoo.load(entry.id) for entry in entries], dtype=torch.float32)
    gram_BB = stack.inner_products(stack)
    length_B = gram_BB.diagonal().sqrt()
    texts_BS = torch.stack([_pooled(encoder, entry.descriptions).mean(0) for entry in entries])
    asked_BS = torch.cat([_pooled(encoder, held_out(entry)[:1]) for entry in entries])
    seen_B = torch.tensor([entry.split == "seen" for entry in entries])
    gallery_BS = predicted_texts(gram_BB / length_B[:, None] / length_B, texts_BS, seen_B)
    asked_BS = asked_BS - texts_BS[seen_B].mean(0)
    found: dict[str, Any] = {"gallery": len(entries), "learned_from": int(seen_B.sum())}
    for name, splits in {"all unseen": PARTS, **{split: (split,) for split in PARTS}}.items():
        own_Q = torch.tensor([i for i, entry in enumerate(entries) if entry.split in splits])
        rank_Q = ranks(asked_BS[own_Q], gallery_BS, own_Q)
        found[name] = {"styles": len(own_Q)} | {
            f"top_{k}": mean_interval((rank_Q < k).double().tolist()).to_dict() for k in NEAR
        }
    return found


def held_out(entry: ZooEntry) -> list[str]:
    """Wordings that nothing was trained on."""
    return [str(text) for text in entry.extra["held_out_descriptions"]]


def _pooled(encoder: TextEncoder, texts: Sequence[str]) -> Tensor:
    return encoder.pool(encoder.encode(list(texts))).double()


def main() -> None:
    """Write retrieval.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with Zoo.open(args.zoo, read_only=True) as zoo:
        found = measure(zoo, TextEncoder.from_pretrained())
    atomic_write_json(Path(args.out) / "retrieval.json", found)


if __name__ == "__main__":
    main()
