"""Published readers of weights against the encoder: same adapters, same texts, same tests.

    python -m lora_gen.evaluation.encoder_baselines.run --out build/baselines.json
        --zoo build/tiny_lm/zoo build/tiny_lm/recipe_zoo --texts build/tiny_lm/encoder_texts.jsonl

To be found by descriptions, every network learns, by InfoNCE, to point at the encoder's own vectors
of the descriptions, so only the reading of weights differs. To tell quality, it learns the measured
accuracy of what the encoder's quality heads learn from. What was measured is written after each
network, and a network that the file already has is skipped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.errors import ConfigError
from lora_gen.evaluation.encoder_baselines.data import load_factors, rows_of
from lora_gen.evaluation.encoder_baselines.nets import (
    AccuracyReader,
    DenseSketchMLP,
    DirectionTokens,
    Factors,
    GLNet,
    LayerProbes,
    Shapes,
    strengths,
)
from lora_gen.evaluation.encoder_evidence import (
    GALLERY,
    MIN_ACCURACY,
    SEEN,
    UNSEEN,
    Evidence,
    load_evidence,
)
from lora_gen.evaluation.encoder_quality import estimates
from lora_gen.evaluation.encoder_quality_report import quality_tests
from lora_gen.evaluation.encoder_report import mean_texts
from lora_gen.evaluation.encoder_retrieval import Gallery, make_gallery, summary
from lora_gen.files import atomic_write_json
from lora_gen.retrieval.encoder import WeightEncoder, default_encoder
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.zoo.store import Zoo

_BATCH, _WIDTH = 48, 64
_LR, _LR_TOKENS = 2e-3, 5e-4
"""A transformer does not learn at the rate of the others."""
_WATCH = 25
"""Steps after which quality is looked at on the recipes that calibrate."""


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


def _optimizer(
    net: nn.Module, more: Sequence[nn.Parameter], steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    tokens = any(isinstance(part, DirectionTokens) for part in net.modules())
    optimizer = torch.optim.AdamW(
        [*net.parameters(), *more], lr=_LR_TOKENS if tokens else _LR, weight_decay=0.01
    )
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def train_network(
    net: nn.Module,
    factors: Factors,
    train: Sequence[int],
    target_BE: Tensor,
    *,
    steps: int,
    tasks: Sequence[str] = (),
) -> list[float]:
    """Train to point at texts; the losses. Adapters of one of the `tasks` share their positives."""
    scale = nn.Parameter(torch.tensor(2.5))
    optimizer, schedule = _optimizer(net, [scale], steps)
    generator = torch.Generator().manual_seed(0)
    losses = []
    net.train(True)
    for _ in range(steps):
        drawn = torch.randperm(len(train), generator=generator)[:_BATCH].tolist()
        names = [tasks[n] if tasks else str(n) for n in drawn]
        same_BB = torch.tensor([[float(a == b) for b in names] for a in names])
        own_BB = same_BB / same_BB.sum(1, keepdim=True)
        found_BE = nn.functional.normalize(net(rows_of(factors, [train[n] for n in drawn])), dim=-1)
        logits_BB = scale.clamp(max=4.6).exp() * found_BE @ target_BE[drawn].mT
        loss = nn.functional.cross_entropy(logits_BB, own_BB)
        loss = (loss + nn.functional.cross_entropy(logits_BB.mT, own_BB)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    net.train(False)
    return losses


def train_accuracy(
    net: AccuracyReader,
    factors: Factors,
    truth_B: Tensor,
    *,
    parts: tuple[Sequence[int], Sequence[int]],
    steps: int,
) -> dict[str, float]:
    """Train to tell accuracy, keeping what is best on entries that it does not learn from.

    Args:
        net: The network; it holds its best weights afterwards.
        factors: Of all entries.
        truth_B: Measured accuracies of all entries.
        parts: Entries to learn from, and entries to watch.
        steps: Most steps.

    Returns:
        The best step, and the mean squared error there.
    """
    train, watched = parts
    strength_BN = strengths(factors, train)
    optimizer, schedule = _optimizer(net, [], steps)
    generator = torch.Generator().manual_seed(0)
    best, kept = {"step": 0, "watched error": float("inf")}, net.state_dict()
    for step in range(1, steps + 1):
        net.train(True)
        drawn = torch.randperm(len(train), generator=generator)[:_BATCH].tolist()
        chosen = [train[n] for n in drawn]
        loss = nn.functional.mse_loss(
            net(rows_of(factors, chosen), strength_BN[chosen]), truth_B[chosen]
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % _WATCH == 0 or step == steps:
            found_B = predicted_accuracy(net, factors, strength_BN, watched)
            error = float((found_B - truth_B[list(watched)]).square().mean())
            if error < best["watched error"]:
                best = {"step": step, "watched error": error}
                kept = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(kept)
    net.train(False)
    return best


@torch.no_grad()
def predicted_accuracy(
    net: AccuracyReader, factors: Factors, strength_BN: Tensor, entries: Sequence[int]
) -> Tensor:
    """What a network says of entries, (B,)."""
    net.train(False)
    chunks = [list(entries[s : s + 64]) for s in range(0, len(entries), 64)]
    return torch.cat([net(rows_of(factors, own), strength_BN[own]) for own in chunks])


@torch.no_grad()
def network_scores(net: nn.Module, factors: Factors, gallery: Gallery, query_QE: Tensor) -> Tensor:
    """Inner products of queries with a gallery, (Q, B)."""
    entries = list(gallery.entries)
    parts = [net(rows_of(factors, entries[s : s + 64])) for s in range(0, len(entries), 64)]
    return query_QE @ nn.functional.normalize(torch.cat(parts), dim=-1).mT


class Comparison:
    """The encoder's evidence, and what networks need of it.

    Args:
        evidence: Adapters of all zoos, texts, encoder.
        factors: Of all entries, in the same order.
        shapes: Of the modules.
    """

    def __init__(self, evidence: Evidence, factors: Factors, shapes: Shapes) -> None:
        self.evidence, self.factors, self.shapes = evidence, factors, shapes
        self.reader = CorpusReader(evidence.encoder.model, evidence.corpus, [0])
        self.gallery = make_gallery(evidence.corpus, UNSEEN, size=GALLERY, first=evidence.first)

    def found(self, build: Callable[[], nn.Module], steps: int) -> dict[str, Any]:
        """How well descriptions find adapters through a network."""
        corpus, texts, parts = self.evidence.corpus, self.evidence.texts, self.evidence.parts
        good = corpus.of(SEEN, min_accuracy=MIN_ACCURACY)
        train = [i for i in good if parts[i] == "train"]
        tasks = [corpus.tasks[i] for i in train]
        target_BE = mean_texts(self.reader, texts, tasks)
        rows = [texts.rows[task][0] for task in self.gallery.tasks]
        query_QE = self.reader.embed_texts(texts, rows)
        started, net = time.process_time(), _seeded(build)
        losses = train_network(net, self.factors, train, target_BE, steps=steps, tasks=tasks)
        return {
            **summary(network_scores(net, self.factors, self.gallery, query_QE), self.gallery),
            "parameters": sum(p.numel() for p in net.parameters()),
            "training loss": sum(losses[-20:]) / len(losses[-20:]),
            "steps": steps,
            "core seconds": time.process_time() - started,
        }

    def judged(self, build: Callable[[], nn.Module], steps: int) -> dict[str, Any]:
        """How well a network tells the accuracy of each kind of test."""
        corpus, parts = self.evidence.corpus, self.evidence.parts
        truth_B = corpus.accuracy
        seen = [i for i in corpus.of(SEEN) if not bool(truth_B[i].isnan())]
        own = tuple([i for i in seen if parts[i] == part] for part in ("train", "calibration"))
        started = time.process_time()
        net = _seeded(lambda: AccuracyReader(build(), _WIDTH, len(self.shapes)))
        best = train_accuracy(net, self.factors, truth_B, parts=(own[0], own[1]), steps=steps)
        strength_BN = strengths(self.factors, own[0])
        tests = {
            name: estimates(
                predicted_accuracy(net, self.factors, strength_BN, test),
                truth_B[test],
                [corpus.tasks[i] for i in test],
            )
            for name, test in quality_tests(self.evidence).items()
        }
        seconds = time.process_time() - started
        return {"tests": tests, **best, "steps": steps, "core seconds": seconds}


def _seeded(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def main() -> None:
    """Compare and write the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, nargs="+", required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("build/cache"))
    parser.add_argument("--encoder", type=Path, help="default: the embedded one")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=[], help="names of networks")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    encoder = WeightEncoder.from_pretrained(args.encoder) if args.encoder else default_encoder()
    if encoder is None:
        raise ConfigError("There is no embedded adapter encoder. Pass `--encoder FOLDER`.")
    evidence = load_evidence(args.zoo, args.texts, args.cache, encoder)
    found = json.loads(args.out.read_text(encoding="utf-8")) if args.out.is_file() else {}
    compare(evidence, _factors_of(evidence, args.zoo, args.cache), args, found)


def _factors_of(evidence: Evidence, zoos: Sequence[Path], cache: Path) -> tuple[Any, Shapes]:
    """Factors in the order of the corpus, whose zoos stand one after the other."""
    wanted, left = dict[Path, Sequence[str]](), list(evidence.corpus.ids)
    for folder in zoos:
        with Zoo.open(folder, read_only=True) as zoo:
            wanted[folder] = list(takewhile(set(zoo.ids()).__contains__, left))
        left = left[len(wanted[folder]) :]
    return load_factors(wanted, cache)


def compare(
    evidence: Evidence,
    factors: tuple[Factors, Shapes],
    args: argparse.Namespace,
    found: dict[str, Any],
) -> None:
    """Every network that is asked for and not yet found, written as it comes."""
    own = Comparison(evidence, *factors)
    found["gallery"] = len(own.gallery.entries)
    for kind, width, measure in (
        ("quality", _WIDTH, own.judged),
        ("retrieval", encoder_width(evidence), own.found),
    ):
        done = found.setdefault(kind, {})
        for name, build in networks(own.shapes, width).items():
            if name in done or (args.only and name not in args.only):
                continue
            done[name] = measure(build, args.steps)
            print(kind, name, {k: v for k, v in done[name].items() if not isinstance(v, dict)})
            atomic_write_json(args.out, found)


def encoder_width(evidence: Evidence) -> int:
    """Width of the vectors that networks point at."""
    return evidence.encoder.width


if __name__ == "__main__":
    main()
