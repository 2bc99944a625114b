"""Published readers of weights against the encoder: same adapters, same texts, same budget.

    python -m lora_gen.evaluation.encoder_baselines.run --zoo build/tiny_lm/zoo
        --texts build/tiny_lm/encoder_texts.jsonl --cache build/cache --out build/baselines.json

Every network learns, by InfoNCE, to point at the encoder's own vectors of the descriptions, so only
the reading of weights differs. Settings are those of `nets`, and were not tuned for any of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.errors import ConfigError
from lora_gen.evaluation.encoder_baselines.nets import (
    DenseSketchMLP,
    DirectionTokens,
    Factors,
    GLNet,
    LayerProbes,
    Shapes,
)
from lora_gen.evaluation.encoder_report import SEEN, UNSEEN, Evidence, load_evidence
from lora_gen.evaluation.encoder_retrieval import Gallery, make_gallery, summary
from lora_gen.files import atomic_write_json
from lora_gen.retrieval.encoder import WeightEncoder, default_encoder
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.zoo.store import Zoo

_BATCH, _LR = 48, 2e-3


def networks(shapes: Shapes, embed_dim: int) -> dict[str, Callable[[], nn.Module]]:
    """Name -> what makes the network."""
    one = dict(list(shapes.items())[-2:-1])
    return {
        "MLP(UV^T)": lambda: DenseSketchMLP(shapes, embed_dim),
        "GL-net": lambda: GLNet(shapes, embed_dim),
        "singular-direction tokens (W2T)": lambda: DirectionTokens(shapes, embed_dim),
        "one-layer probes (ProbeX)": lambda: LayerProbes(one, embed_dim, views=1),
        "multi-view probes (MVProbe), one layer": lambda: LayerProbes(one, embed_dim, views=4),
        "multi-view probes (MVProbe), all layers": lambda: LayerProbes(
            shapes, embed_dim, views=4, probes=12, hidden=12
        ),
    }


def load_factors(
    folder: Path, ids: Sequence[str]
) -> tuple[dict[str, tuple[Tensor, Tensor]], Shapes]:
    """Factors of adapters of one rank and module set, with scalings folded in."""
    parts: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
    with Zoo.open(folder, read_only=True) as zoo:
        for entry_id in ids:
            for name, pair in zoo.load(entry_id).pairs.items():
                a_RI, b_OR = pair.matrices()
                lists = parts.setdefault(name, ([], []))
                lists[0].append(a_RI.half())
                lists[1].append((b_OR.float() * pair.scaling).half())
    found = {name: (torch.stack(a), torch.stack(b)) for name, (a, b) in sorted(parts.items())}
    shapes = {name: (b.shape[1], a.shape[2]) for name, (a, b) in found.items()}
    return found, shapes


def train_network(
    net: nn.Module, factors: Factors, train: Sequence[int], target_BE: Tensor, *, steps: int
) -> list[float]:
    """Train on some adapters; the losses."""
    scale = nn.Parameter(torch.tensor(2.5))
    optimizer = torch.optim.AdamW([*net.parameters(), scale], lr=_LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    losses = []
    net.train(True)
    for _ in range(steps):
        drawn = torch.randperm(len(train), generator=generator)[:_BATCH]
        chosen = [train[i] for i in drawn.tolist()]
        found_BE = nn.functional.normalize(net(rows_of(factors, chosen)), dim=-1)
        logits_BB = scale.clamp(max=4.6).exp() * found_BE @ target_BE[drawn].mT
        own = torch.arange(len(chosen))
        loss = nn.functional.cross_entropy(logits_BB, own)
        loss = (loss + nn.functional.cross_entropy(logits_BB.mT, own)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    net.train(False)
    return losses


def rows_of(factors: Factors, entries: Sequence[int]) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors of some adapters, float32."""
    return {name: (a[entries].float(), b[entries].float()) for name, (a, b) in factors.items()}


@torch.no_grad()
def network_scores(net: nn.Module, factors: Factors, gallery: Gallery, query_QE: Tensor) -> Tensor:
    """Inner products of queries with a gallery, (Q, B)."""
    entries = list(gallery.entries)
    parts = [net(rows_of(factors, entries[s : s + 64])) for s in range(0, len(entries), 64)]
    return query_QE @ nn.functional.normalize(torch.cat(parts), dim=-1).mT


def compare(
    evidence: Evidence, folder: Path, *, steps: int, names: Sequence[str] = ()
) -> dict[str, Any]:
    """Every network on adapters of one recipe, and how well it fitted its own training."""
    corpus = evidence.corpus
    reader = CorpusReader(evidence.encoder.model, corpus)
    gallery = make_gallery(corpus, UNSEEN, size=0, first=evidence.first)
    factors, shapes = load_factors(folder, corpus.ids[: evidence.first])
    rows = evidence.texts.rows
    query_QE = reader.embed_texts(evidence.texts, [rows[task][0] for task in gallery.tasks])
    train = [i for i in corpus.of(SEEN, min_accuracy=0.3) if i < evidence.first]
    target_BE = reader.embed_texts(evidence.texts, [rows[corpus.tasks[i]][0] for i in train])
    result = {}
    for name, build in networks(shapes, target_BE.shape[1]).items():
        if names and name not in names:
            continue
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = build()
            losses = train_network(net, factors, train, target_BE, steps=steps)
        found = summary(network_scores(net, factors, gallery, query_QE), gallery)
        late = losses[-20:]
        result[name] = {
            **found,
            "parameters": sum(p.numel() for p in net.parameters()),
            "training loss": sum(late) / len(late),
        }
    return {"gallery": len(gallery.entries), "steps": steps, "methods": result}


def main() -> None:
    """Compare and write the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True, help="adapters of one recipe")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("build/cache"))
    parser.add_argument("--encoder", type=Path, help="default: the embedded one")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    encoder = WeightEncoder.from_pretrained(args.encoder) if args.encoder else default_encoder()
    if encoder is None:
        raise ConfigError("There is no embedded adapter encoder. Pass `--encoder FOLDER`.")
    evidence = load_evidence([args.zoo], args.texts, args.cache, encoder)
    found = compare(evidence, args.zoo, steps=args.steps, names=args.only)
    for name, values in found["methods"].items():
        print(name, values["all"]["top1"]["value"], values["all"]["top10"]["value"])
    atomic_write_json(args.out, found)


if __name__ == "__main__":
    main()
