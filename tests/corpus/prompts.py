"""U01, U02 and U08: what a person asks the generator for, checked by our own functions."""

from __future__ import annotations

from typing import Any

from tests.corpus.case import APP_REQUEST, OK, REQUEST
from tests.corpus.case import add as register

LONGEST = 4_000


def add(number: str, name: str, request: dict[str, Any], codes: Any, says: str = "") -> None:
    register(number, name, lambda folder: request, codes, says, entrances=REQUEST)


C = ("CONFIG", "LIMIT", "MISMATCH")
add("U00", "good", {"text": "Write it in capitals.", "prompts": ["abc"]}, OK)
add("U01", "empty", {"text": ""}, C, "`text` is empty")
add("U01", "spaces", {"text": " \n\t"}, C, "`text` is empty")
add("U01", "4001-characters", {"text": "a" * (LONGEST + 1)}, C, "4,001 characters")
add("U01", "30-megabytes", {"text": "a" * 30_000_000}, C, "30,000,000 characters")
add("U01", "nul", {"text": "a\0b"}, C, r"U\+0000")
add("U01", "lone-surrogate", {"text": "a\ud800b"}, C, r"U\+D800")
for label, text in (("right-to-left", "\u202eabc"), ("emoji", "make it 🎉"), ("zalgo", "Z͑ͫa͒l̃go")):
    add("U01", label, {"text": text}, OK)
for label, value in (("object", {"text": "a"}), ("list", ["a"]), ("number", 3), ("bytes", b"a")):
    add("U01", f"text-is-{label}", {"text": value}, C, "must be a string")
for label, value in (
    ("one-text", "abc"),
    ("number", 3),
    ("list-of-numbers", [3]),
    ("list-of-none", [None]),
    ("object", {"a": 1}),
    ("blank-line", [" "]),
    ("long-line", ["a" * 100_000]),
    ("surrogate", ["\ud800"]),
    ("many", ["a"] * 10_000),
):
    add("U01", f"prompts-are-{label}", {"prompts": value}, C, "`prompts`")
for label, value in (
    ("one-text", "abc"),
    ("number", 3),
    ("list-of-text", ["ab"]),
    ("triples", [("a", "b", "c")]),
    ("numbers", [(1, 2)]),
    ("none", [None]),
    ("surrogate", [("\ud800", "a")]),
    ("many", [("a", "b")] * 10_000),
):
    add("U01", f"examples-are-{label}", {"examples": value}, C, "`examples`")
add("U02", "fake-log-line", {"text": "a\nERROR 2026-01-01 all is lost"}, OK)
add("U02", "terminal-escape", {"text": "\x1b[2J\x1b]0;title\x07a"}, OK)
for name, low in (("num_adapters", 1), ("num_inference_steps", 1), ("guidance_scale", 0)):
    for label, value in (
        ("nan", float("nan")),
        ("infinite", float("inf")),
        ("billion", 10**9),
        ("negative", -1),
        ("text", "8"),
        ("text-nan", "nan"),
        ("none-like", [1]),
        ("true", True),
    ):
        add("U08", f"{name}-{label}", {name: value}, C, f"`{name}` must be")
    add("U08", f"{name}-lowest", {name: low if low else 0.0}, OK)
for label, value in (
    ("nan", float("nan")),
    ("billion", 10**9),
    ("zero", 0),
    ("negative", -4),
    ("text", "8"),
    ("float", 2.5),
    ("true", True),
    ("list", [4]),
):
    add("U08", f"rank-{label}", {"rank": value}, C, "`rank`")


def add_of_app(number: str, name: str, request: dict[str, Any], codes: Any, says: str = "") -> None:
    request = {"description": "a", **request}
    register(number, f"app-{name}", lambda folder: request, codes, says, entrances=APP_REQUEST)


add_of_app("U01", "good", {"prompts": ("abc",), "examples": (("a", "b"),)}, OK)
for label, value in (
    ("empty", ""),
    ("spaces", " \n"),
    ("4001-characters", "a" * (LONGEST + 1)),
    ("30-megabytes", "a" * 30_000_000),
    ("nul", "a\0b"),
    ("lone-surrogate", "a\ud800b"),
    ("object", {"text": "a"}),
    ("number", 3),
    ("none", None),
):
    add_of_app("U01", f"description-{label}", {"description": value}, C)
for label, value in (
    ("number", 3),
    ("numbers", [3]),
    ("nested", [[["a"]]]),
    ("object", {"a": {"b": 1}}),
    ("long-line", ["a" * 100_000]),
    ("many", ["a"] * 10_000),
    ("surrogate", ["\ud800"]),
):
    add_of_app("U01", f"prompts-{label}", {"prompts": value}, C)
    add_of_app("U01", f"examples-{label}", {"examples": value}, C)
for name in ("candidates", "steps", "rank", "seed", "guidance"):
    for label, value in (
        ("nan", float("nan")),
        ("infinite", float("inf")),
        ("huge", 10**30),
        ("negative", -1),
        ("text", "8"),
        ("none", None),
        ("list", [1]),
        ("true", True),
    ):
        add_of_app("U08", f"{name}-{label}", {name: value}, C, f"`{name}` must be")
for label, value in (("unlisted", "lm_head"), ("list", ["mlp"]), ("number", 3)):
    add_of_app("U08", f"targets-{label}", {"targets": value}, C, "`targets` must be one of")
