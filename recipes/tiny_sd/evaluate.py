"""Measure a generator of styles beside its base, the oracle adapters and the baselines.

    python -m recipes.tiny_sd.evaluate --zoo build/tiny_sd/zoo --reader build/tiny_sd/reader/final
        --out build/tiny_sd/reports [--generator build/tiny_sd/generator/final]

A score is one minus the style error, so that the base without an adapter scores about 0 and a
perfect style 1; content is the share of pictures whose shapes and number are still read right.
Without a generator, base, oracles and baselines alone are measured. `--known report.json` takes
what does not depend on the generator from an earlier report of the same settings.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.scaling import TokenScaling
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from lora_gen.evaluation.baselines.gaussian import TokenGaussian
from lora_gen.evaluation.baselines.mean import mean_adapter
from lora_gen.evaluation.baselines.nearest import NearestText
from lora_gen.evaluation.baselines.ridge import KernelRidge
from lora_gen.evaluation.baselines.soup import text_soups
from lora_gen.evaluation.pictures import PictureRunner
from lora_gen.evaluation.report import BASE, GENERATED, ORACLE
from lora_gen.evaluation.statistics import mean_interval, share_of_gain
from lora_gen.evaluation.tasks import SPLITS
from lora_gen.files import atomic_write_json, atomic_write_text
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo
from recipes.tiny_sd.reader_task import Reader, load_reader
from recipes.tiny_sd.style_error import StyleScale, content_kept, style_errors
from recipes.tiny_sd.train_adapters import BASE_ID, TARGETS, TEST_SEED, scenes_of
from recipes.tiny_sd.world.styles import styles_by_name

MEAN, NEAREST, GAUSSIAN, RIDGE = "mean LoRA", "nearest text", "Gaussian", "kernel ridge"
SOUPS = {"soup of 4": 4, "soup of 16": 16}
SHUFFLED = "generated, other's text"
METHODS = (BASE, MEAN, NEAREST, *SOUPS, RIDGE, GAUSSIAN, GENERATED, SHUFFLED, ORACLE)
TITLES = {
    "share_of_oracle_gain": "Share of the trained adapter's gain in style",
    "style": "Style: 1 is the style's own drawing, 0 as far from it as no style is on average",
    "content": "Content: share of pictures whose shapes and number are still read right",
}
RANK = 4
Adapters = Callable[[Sequence[str], int], list[Adapter]]
Rows = dict[str, list[tuple[float, float]]]


class Measure:
    """Draws with adapters and says how near their styles are."""

    def __init__(self, base: str, reader: Reader, *, pictures: int, steps: int) -> None:
        self.runner, self.reader = PictureRunner(base), reader
        self.pictures, self.steps = pictures, steps
        self.styles = styles_by_name()
        scenes = scenes_of("scale", 16, TEST_SEED)
        plain = self.runner.draw([scene.caption for scene in scenes], steps=steps)
        some = random.Random(0).sample(sorted(self.styles), 48)
        styled = [self.styles[name](plain) for name in some]
        self.scale = StyleScale.of(plain, styled, reader)
        self._plain: dict[str, Tensor] = {}

    def scores(self, style: str, adapter: Adapter | None) -> tuple[float, float]:
        """(1 - style error, content kept) over unseen scenes."""
        scenes = scenes_of(style, self.pictures, TEST_SEED)
        captions = [scene.caption for scene in scenes]
        if style not in self._plain:
            self._plain[style] = self.runner.draw(captions, steps=self.steps)
        plain = self._plain[style]
        drawn = plain if adapter is None else self.runner.draw(captions, adapter, steps=self.steps)
        wanted = self.styles[style](plain)
        errors = style_errors(drawn, wanted, self.reader, self.scale)
        kept = content_kept(drawn, scenes, self.reader)
        return 1 - float(errors.mean()), float(kept.mean())


def wordings(entry: ZooEntry, split: str, seed: int) -> str:
    """The description that a seed asks with: held-out ones on the split of unseen wordings."""
    held_out = list(entry.extra.get("held_out_descriptions", ()))
    found = held_out if split == "unseen_wording" else list(entry.descriptions)
    return str(found[seed % len(found)])


def ways(zoo: Zoo, generator: str | None) -> dict[str, Adapters]:
    """Every method that makes adapters from texts; it learns from the entries of `seen` alone."""
    ids = sorted(zoo.ids(split="seen"))
    nearest = NearestText(zoo, ids, TextEncoder.from_pretrained())
    mean, ridge = mean_adapter(zoo, ids, rank=RANK), KernelRidge(zoo, nearest, rank=RANK)
    spread = spread_of(zoo, ids)

    def soup(texts: Sequence[str], seed: int, *, count: int) -> list[Adapter]:
        return text_soups(zoo, nearest, texts, count=count, rank=RANK)

    def drawn(texts: Sequence[str], seed: int) -> list[Adapter]:
        source = torch.Generator().manual_seed(seed)
        return [spread.draw(source, base=BASE_ID, task_type=None) for _ in texts]

    found: dict[str, Adapters] = {
        MEAN: lambda texts, seed: [mean] * len(texts),
        NEAREST: lambda texts, seed: [zoo.load(i) for i in nearest.ids_of(texts)],
        **{name: partial(soup, count=count) for name, count in SOUPS.items()},
        RIDGE: lambda texts, seed: ridge.adapters(texts),
        GAUSSIAN: drawn,
    }
    if generator is None:
        return found
    from lora_gen.pipeline import LoraGenPipeline

    pipe = LoraGenPipeline.from_pretrained(generator)

    def generated(texts: Sequence[str], seed: int) -> list[Adapter]:
        noise = [torch.Generator().manual_seed(1_000 * seed + i) for i in range(len(texts))]
        return [
            pipe(text, rank=RANK, generator=g).adapters[0]
            for text, g in zip(texts, noise, strict=True)
        ]

    return found | {
        GENERATED: generated,
        SHUFFLED: lambda texts, seed: generated([*texts[1:], *texts[:1]], seed),
    }


def spread_of(zoo: Zoo, ids: Sequence[str]) -> TokenGaussian:
    """A Gaussian over the entries' tokens."""
    spec = BaseModelSpec.from_config(BASE_ID)
    layout = TokenLayout.build(spec, rank=RANK, width=spec.hidden_size, targets=TARGETS)
    return TokenGaussian(zoo, ids, AdapterCodec(layout=layout, scaling=TokenScaling()))


def measure_split(
    measure: Measure,
    zoo: Zoo,
    entries: Sequence[ZooEntry],
    methods: dict[str, Adapters],
    *,
    split: str,
    seeds: int,
    known: Rows,
) -> Rows:
    """Method -> (style, content) of each style; methods with noise are averaged over seeds."""
    found = dict(known)
    if BASE not in found:
        found[BASE] = [measure.scores(e.task, None) for e in entries]
        found[ORACLE] = [measure.scores(e.task, zoo.load(e.id)) for e in entries]
    for name in (name for name in methods if name not in known):
        adapters = methods[name]
        runs = []
        for seed in range(seeds if name == GENERATED else 1):
            made = adapters([wordings(e, split, seed) for e in entries], seed)
            runs.append([measure.scores(e.task, a) for e, a in zip(entries, made, strict=True)])
        found[name] = [
            (sum(s for s, _ in each) / len(each), sum(c for _, c in each) / len(each))
            for each in zip(*runs, strict=True)
        ]
        print(f"{split}: {name}", flush=True)
    return found


def summary_of(found: Rows) -> dict[str, Any]:
    """Intervals of style and content, and shares of the oracle's gain in style."""
    style = {name: [s for s, _ in rows] for name, rows in found.items()}
    shares = {}
    for name in (n for n in style if n not in (BASE, ORACLE)):
        try:
            shares[name] = share_of_gain(style[name], style[BASE], style[ORACLE]).to_dict()
        except ConfigError:
            continue  # the oracle gains nothing here, so a share says nothing: left out
    return {
        "styles": len(style[BASE]),
        "style": {name: mean_interval(values).to_dict() for name, values in style.items()},
        "content": {n: mean_interval([c for _, c in rows]).to_dict() for n, rows in found.items()},
        "share_of_oracle_gain": shares,
    }


def style_tables(summary: dict[str, Any]) -> str:
    """One table for each measure, methods down and splits across."""
    splits = [split for split in SPLITS if split in summary]
    head = [f"{s.replace('_', ' ')} (n={summary[s]['styles']})" for s in splits]
    lines: list[str] = []
    for key, title in TITLES.items():
        lines += [f"**{title}**", "", f"| method | {' | '.join(head)} |"]
        lines += ["| --- " * (len(head) + 1) + "|"]
        for name in METHODS:
            if any(name in summary[split][key] for split in splits):
                cells = [interval_cell(summary[split][key].get(name)) for split in splits]
                lines += [f"| {name} | {' | '.join(cells)} |"]
        lines += [""]
    return "\n".join(lines)


def interval_cell(found: dict[str, float] | None) -> str:
    """A value and its interval; a dash where nothing was measured."""
    if found is None:
        return "\u2013"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def known_rows(args: argparse.Namespace, split: str, styles: Sequence[str]) -> Rows:
    """What an earlier report says of the same styles, but for generated adapters.

    Raises:
        ConfigError: Its settings or styles are others.
    """
    if args.known is None:
        return {}
    report = json.loads(Path(args.known).read_text())
    for name in ("base", "zoo", "reader", "styles", "pictures", "steps"):
        if report["settings"][name] != getattr(args, name):
            raise ConfigError(
                f"`{args.known}` was measured with `{name}` = {report['settings'][name]}, not "
                f"{getattr(args, name)}. Measure all again, without --known."
            )
    rows = dict(report["scores"][split])
    if rows.pop("styles") != list(styles):
        raise ConfigError(f"`{args.known}` has other styles. Measure all again, without --known.")
    return {name: rows[name] for name in rows if name not in (GENERATED, SHUFFLED)}


def scores_of(args: argparse.Namespace, split: str) -> tuple[list[str], Rows] | None:
    """(the split's measured styles, their scores by method); None where there are too few."""
    torch.set_num_threads(1)
    with Zoo.open(args.zoo, read_only=True) as zoo:
        entries = zoo.entries(split="seen" if split == "unseen_wording" else split)
        entries = sorted(entries, key=lambda entry: entry.task)
        chosen = random.Random(0).sample(entries, min(args.styles, len(entries)))
        if len(chosen) < 2:
            return None
        reader, methods = load_reader(Path(args.reader)), ways(zoo, args.generator)
        measure = Measure(args.base, reader, pictures=args.pictures, steps=args.steps)
        names = [entry.task for entry in chosen]
        known = known_rows(args, split, names)
        found = measure_split(
            measure, zoo, chosen, methods, split=split, seeds=args.seeds, known=known
        )
        return names, found


def main() -> None:
    """Write report.json and report.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="tiny_sd")
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--reader", required=True)
    parser.add_argument("--generator")
    parser.add_argument("--known", help="an earlier report of the same settings")
    parser.add_argument("--out", required=True)
    parser.add_argument("--styles", type=int, default=60, help="styles a split at most")
    parser.add_argument("--pictures", type=int, default=12, help="pictures a style")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25, help="sampler steps of each picture")
    parser.add_argument("--workers", type=int, default=1, help="splits measured at a time")
    args = parser.parse_args()
    started, out = time.time(), Path(args.out)
    scores, summary = {}, {}
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        for split, found in zip(SPLITS, pool.map(partial(scores_of, args), SPLITS), strict=True):
            if found is not None:
                names, rows = found
                summary[split] = summary_of(rows)
                scores[split] = {"styles": names, **rows}
    out.mkdir(parents=True, exist_ok=True)
    settings = vars(args) | {"seconds": round(time.time() - started)}
    report = {"settings": settings, "scores": scores, "summary": summary}
    atomic_write_json(out / "report.json", report)
    atomic_write_text(out / "report.md", f"# Styles\n\n{style_tables(summary)}")
    print(style_tables(summary))


if __name__ == "__main__":
    main()
