"""Find styles by description from weights alone: kernel ridge regression of texts on weights.

    python -m recipes.tiny_sd.retrieval --zoo build/tiny_sd/zoo --out build/tiny_sd/reports

The kernel is the cosine of two adapters' delta weights, exact by r-by-r algebra; what it predicts
is the mean text vector of an adapter's descriptions, learned from the styles of `seen`. Each unseen
style is then looked for among all adapters, seen ones included, by one of its descriptions; its own
pictures, name and prompts are not used. With a generator, a description is read a second way: by
the adapter that is written for it, which tells arguments such as colors apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from lora_gen.adapter.stack import AdapterStack
from lora_gen.conditioning.text import TextEncoder
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.files import atomic_write_json
from lora_gen.pipeline import LoraGenPipeline
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


def predicted_kernel(kernel_BB: Tensor, asked_BQ: Tensor, seen_B: Tensor) -> Tensor:
    """Cosine of each query with what an adapter's weights say it was asked for, (Q, B).

    `predicted_texts` where what was asked is known by inner products alone, such as those of the
    adapters that a generator wrote for the descriptions.

    Args:
        kernel_BB: Cosines of delta weights.
        asked_BQ: Inner products of what the adapters were asked for with the queries; here every
            adapter has one, in the same order, so Q is B. Only seen rows are learned from.
        seen_B: Which adapters may be learned from.
    """
    share_B = seen_B.double() / seen_B.sum()
    asked_BQ = asked_BQ - share_B @ asked_BQ
    asked_BQ = asked_BQ - (asked_BQ @ share_B)[:, None]
    penalty = RIDGE * torch.eye(int(seen_B.sum()), dtype=kernel_BB.dtype)
    weights_BM = torch.linalg.solve(kernel_BB[seen_B][:, seen_B] + penalty, kernel_BB[seen_B]).mT
    length_B = ((weights_BM @ asked_BQ[seen_B][:, seen_B]) * weights_BM).sum(1).sqrt()
    length_Q = asked_BQ.diagonal().sqrt()
    cosines_BQ: Tensor = weights_BM @ asked_BQ[seen_B] / length_B[:, None] / length_Q
    return cosines_BQ.mT


def ranks(scores_QB: Tensor) -> Tensor:
    """How many of the gallery come before query i's own adapter i, (Q,)."""
    return (scores_QB > scores_QB.diagonal()[:, None]).sum(1)


def measure(zoo: Zoo, encoder: TextEncoder, pipe: LoraGenPipeline | None) -> dict[str, Any]:
    """Shares of unseen styles found first and among ten, with intervals, by split and in all."""
    entries = sorted(zoo.entries(), key=lambda entry: entry.task)
    stack = AdapterStack([zoo.load(entry.id) for entry in entries], dtype=torch.float32)
    gram_BB = stack.inner_products(stack)
    length_B = gram_BB.diagonal().sqrt()
    kernel_BB = gram_BB / length_B[:, None] / length_B
    texts_BS = torch.stack([_pooled(encoder, entry.descriptions).mean(0) for entry in entries])
    asked_BS = torch.cat([_pooled(encoder, held_out(entry)[:1]) for entry in entries])
    seen_B = torch.tensor([entry.split == "seen" for entry in entries])
    gallery_BS = predicted_texts(kernel_BB, texts_BS, seen_B)
    asked_BS = torch.nn.functional.normalize(asked_BS - texts_BS[seen_B].mean(0), dim=1)
    scores = {"description": asked_BS @ gallery_BS.mT}
    if pipe is not None:
        written_QB = predicted_kernel(kernel_BB, _written(pipe, entries), seen_B)
        both = [rows_QB / rows_QB.std() for rows_QB in (scores["description"], written_QB)]
        scores |= {"generated": written_QB, "both": both[0] + both[1]}
    found: dict[str, Any] = {"gallery": len(entries), "learned_from": int(seen_B.sum())}
    for way, scores_QB in scores.items():
        rank_Q, rows = ranks(scores_QB), {}
        for name, splits in {"all unseen": PARTS, **{split: (split,) for split in PARTS}}.items():
            own_Q = torch.tensor([entry.split in splits for entry in entries])
            rows[name] = {"styles": int(own_Q.sum())} | {
                f"top_{k}": mean_interval((rank_Q[own_Q] < k).double().tolist()).to_dict()
                for k in NEAR
            }
        found[way] = rows
    return found


def _written(pipe: LoraGenPipeline, entries: Sequence[ZooEntry]) -> Tensor:
    """Inner products of what a generator writes: seen styles by a description, others by a query.

    Rows are what adapters were asked for, columns the queries; (B, B). An unseen style is asked
    for in a held-out wording, and its row is never read.
    """
    asked = [e.descriptions[0] if e.split == "seen" else held_out(e)[0] for e in entries]
    written = []
    for text in track(asked, description="generating"):
        noise = torch.Generator().manual_seed(0)
        written += pipe(text, rank=1, num_inference_steps=2, generator=noise).adapters
    stack = AdapterStack(written, dtype=torch.float32)
    return stack.inner_products(stack)


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
    parser.add_argument("--generator", help="reads descriptions too, by what it writes for them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with Zoo.open(args.zoo, read_only=True) as zoo:
        pipe = LoraGenPipeline.from_pretrained(args.generator) if args.generator else None
        found = measure(zoo, TextEncoder.from_pretrained(), pipe)
    atomic_write_json(Path(args.out) / "retrieval.json", found)


if __name__ == "__main__":
    main()
