"""Write the tables and pictures of docs/lenses.md from the shipped report.

python -m recipes.minilm_lenses.figures

`--check` changes nothing and fails if the page or a picture does not say what the report says.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from lora_gen.evaluation.lenses import BASE, ORACLE
from lora_gen.evaluation.statistics import paired_difference_interval, share_of_gain
from recipes.minilm_lenses.lens_tables import cell, split_table
from recipes.minilm_lenses.tasks import HAND_NEW, HAND_SEEN, NEW, UNTOUCHED

REPORTS = Path("lora_gen/assets/minilm/reports")
PAGE, PICTURE = Path("docs/lenses.md"), Path("docs/lenses/shares.svg")
SPLITS = {
    "seen": "seen criteria, new words",
    "unseen_argument": "new criteria on known words",
    NEW: "unseen families",
    UNTOUCHED: "unseen families, looked at once",
    HAND_SEEN: "hand-written, seen criteria",
    HAND_NEW: "hand-written, unseen families",
}
GENERATED, NAMED, TAUGHT = "generated", "generated, values named", "taught by value names"
SIXTEEN = ("generated + 16 sentences and names", "few-shot LoRA, 16 sentences and names")
PICTURED = (
    *("whitening", "instruction", "mean lens", "kernel ridge from words", "nearest lens"),
    *("soup of 4 nearest", GENERATED, "directions of value names", NAMED, TAUGHT),
    *("few-shot LoRA, 16 sentences", *SIXTEEN, ORACLE),
)
UNSEEN_WORDS, SHUFFLED = "generated, unseen wording", "generated, another criterion's words"
DRAWN = ("seen", "unseen_argument", NEW, HAND_NEW)
_BAR, _GAP, _LEFT, _WIDTH = 16, 10, 290, 360
_COLORS = {"seen": "#8a97a8", "unseen_argument": "#6d7fd1", NEW: "#3b4cc0", HAND_NEW: "#c05a3b"}


def shares_table(report: Mapping[str, Any]) -> str:
    """Gain in mAP of every way on every split."""
    found = report["summary"]
    splits = [split for split in SPLITS if split in found]
    heads = [f"{SPLITS[split]} (n={len(report['tasks'][split])})" for split in splits]
    lines = ["| way | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(splits)]
    lines.append("| base, its mAP | " + " | ".join(_map(found[s][BASE]) for s in splits) + " |")
    for way in ways_of(found):
        cells = [cell(found[split].get(way, {}).get("gain"), 3) for split in splits]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ways_of(found: Mapping[str, Any]) -> list[str]:
    """All but the base, those that gain most on unseen families last."""
    gains = {way: row["gain"]["value"] for way, row in found[NEW].items() if way != BASE}
    return sorted(gains, key=gains.__getitem__)


def bars_table(report: Mapping[str, Any]) -> str:
    """What was wanted of lenses, and what came out."""
    found, scores = report["summary"], report["scores"]
    new, hand, seen = found[NEW], found[HAND_NEW], found["seen"]
    wording = kept(scores["seen"], UNSEEN_WORDS, GENERATED)
    over = difference(scores[NEW], SIXTEEN[0], "few-shot LoRA, 16 sentences")
    told = difference(scores[NEW], *SIXTEEN)
    rows = [
        (
            "words alone: share of the oracle's gain, unseen families",
            "0.40",
            _share(new, GENERATED),
        ),
        ("the same, the values named in the request", "0.40", _share(new, NAMED)),
        ("the same, a lens taught by these names", "0.40", _share(new, TAUGHT)),
        ("16 labeled sentences, from the generated lens", "0.70", _share(new, SIXTEEN[0])),
        ("mAP above few-shot training on the same 16", "above 0", cell(over, 3)),
        ("mAP above few-shot training on the 16 with value names", "above 0", cell(told, 3)),
        ("unseen wording, share of the gain, seen criteria", "0.85", cell(wording)),
        ("hand-written, unseen families, words alone: gain", "above 0", _gain(hand, GENERATED)),
        ("the same, the values named", "above 0", _gain(hand, NAMED)),
        ("the same, taught by these names", "above 0", _gain(hand, TAUGHT)),
        ("words of another criterion, unseen families: gain", "none", _gain(new, SHUFFLED)),
        ("words of another criterion, seen criteria: gain", "none", _gain(seen, SHUFFLED)),
    ]
    lines = ["| what | wanted | measured |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {bar} | {value} |" for what, bar, value in rows)])


def kept(scores: Mapping[str, Any], way: str, whole: str) -> dict[str, float] | None:
    """The share of one way's gain that another has, with its interval; None where one lacks."""
    if way not in scores or whole not in scores:
        return None
    maps = ([row["map"] for row in scores[name]] for name in (way, BASE, whole))
    return share_of_gain(*maps).to_dict()


def difference(scores: Mapping[str, Any], way: str, other: str) -> dict[str, float]:
    """How much more mAP one way has than another on the same criteria, with its interval."""
    left, right = ([row["map"] for row in scores[name]] for name in (way, other))
    return paired_difference_interval(left, right).to_dict()


def _share(rows: Mapping[str, Any], way: str) -> str:
    return cell(rows.get(way, {}).get("share"))


def _gain(rows: Mapping[str, Any], way: str) -> str:
    return cell(rows.get(way, {}).get("gain"), 3)


def details(report: Mapping[str, Any]) -> str:
    """All measures, a table a split."""
    parts = []
    for split, name in SPLITS.items():
        if split in report["summary"]:
            parts += [f"### {name[0].upper()}{name[1:]}", split_table(report["summary"][split])]
    return "\n\n".join(parts)


def curve_table(curve: Sequence[Mapping[str, Any]]) -> str:
    """Gain of text-only lenses against the number of criteria that were learned from."""
    names = list(curve[0]["splits"])
    heads = [SPLITS.get(name, name.replace("_", " ")) for name in names]
    lines = ["| criteria learned from | steps | " + " | ".join(heads) + " |"]
    lines.append("| --- | --- |" + " --- |" * len(names))
    for row in curve:
        cells = [cell(row["splits"][name], 3) for name in names]
        lines.append(f"| {row['criteria']} | {row['steps']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(report: Mapping[str, Any]) -> str:
    """Bars of the gain in mAP, a group for each way, whiskers for the intervals."""
    found = report["summary"]
    splits = [split for split in DRAWN if split in found]
    ways = [way for way in ways_of(found) if way in PICTURED]
    gains = {s: {w: found[s][w]["gain"] for w in ways if w in found[s]} for s in splits}
    top = max(gain["high"] for own in gains.values() for gain in own.values())
    low = min(0.0, *(gain["low"] for own in gains.values() for gain in own.values()))
    scale = _WIDTH / (top - low)
    rows, rows_top = [], 34 + 18 * len(splits)
    y = rows_top
    for way in ways:
        rows.append(f'<text x="8" y="{y + 12}" class="w">{escape(way)}</text>')
        for split in (split for split in splits if way in gains[split]):
            rows += _bar(gains[split][way], _COLORS[split], y, scale, low)
            y += _BAR
        y += _GAP
    legend = [
        f'<rect x="8" y="{28 + 18 * i}" width="12" height="12" fill="{_COLORS[split]}"/>'
        f'<text x="26" y="{38 + 18 * i}">{escape(SPLITS[split])}</text>'
        for i, split in enumerate(splits)
    ]
    zero = _LEFT - low * scale
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 60} {y + 24}" '
        'font-family="sans-serif" font-size="12" fill="#334">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n'
        '<text x="8" y="18" font-weight="bold">What each way adds to the mean average precision '
        "of the base</text>"
    )
    grid = _grid(zero, scale, ticks=range(int(low * 10), int(top * 10) + 1), ends=(rows_top, y))
    return "\n".join([head, *legend, *grid, *rows, "</svg>\n"])


def _grid(zero: float, scale: float, *, ticks: range, ends: tuple[int, int]) -> list[str]:
    """A line and its number at each tenth."""
    found = []
    for tick in ticks:
        x = zero + tick / 10 * scale
        color = "#99a" if tick == 0 else "#e3e5ec"
        found += [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0] - 8}" y2="{ends[1]}" stroke="{color}"/>',
            f'<text x="{x:.1f}" y="{ends[1] + 14}" text-anchor="middle">{tick / 10:+.1f}</text>',
        ]
    return found


def _bar(gain: Mapping[str, float], color: str, y: int, scale: float, low: float) -> list[str]:
    zero = _LEFT - low * scale
    ends = sorted((zero, zero + gain["value"] * scale))
    whisker = [zero + gain[key] * scale for key in ("low", "high")]
    middle = y + _BAR / 2 - 1
    return [
        f'<rect x="{ends[0]:.1f}" y="{y}" width="{ends[1] - ends[0]:.1f}" height="{_BAR - 3}" '
        f'fill="{color}"/>',
        f'<line x1="{whisker[0]:.1f}" x2="{whisker[1]:.1f}" y1="{middle}" y2="{middle}" '
        'stroke="#223"/>',
    ]


def _map(row: Mapping[str, Any]) -> str:
    return f"{row['map']['value']:.3f}"


def drawn(page: str) -> str:
    """The page with its marked parts as the reports say."""
    report = _read("report.json")
    parts = {
        "gains": shares_table(report),
        "bars": bars_table(report),
        "details": details(report),
    }
    if (REPORTS / "curve.json").is_file():
        parts["curve"] = curve_table(_read("curve.json"))
    for name, made in parts.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        start, stop = page.index(begin) + len(begin), page.index(end)
        page = f"{page[:start]}\n{made}\n{page[stop:]}"
    return page


def _read(name: str) -> Any:
    return json.loads((REPORTS / name).read_text("utf-8"))


def main() -> int:
    """Draw, or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    made = {PAGE: drawn(PAGE.read_text("utf-8")), PICTURE: picture(_read("report.json"))}
    if parser.parse_args().check:
        return int(any(path.read_text("utf-8") != text for path, text in made.items()))
    for path, text in made.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
