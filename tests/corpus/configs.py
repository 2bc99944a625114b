"""C01 to C22: configs, names, bases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.corpus.build import (
    CONFIG,
    MODULES,
    PREFIX,
    adapter,
    config,
    f32,
    header_of,
    lora,
    plain,
    raw,
)
from tests.corpus.case import BASE_NAME, OK, Build, add

A, B = (f"{PREFIX}{MODULES[0]}.lora_{side}.weight" for side in "AB")
LOADERS = ("load", "archive_of")
BOMB = "(" * 12 + "a" + "+)" * 12 + "$"
"""Nested quantifiers: compiled and run over module names, it would not come back."""


def text(content: bytes) -> Build:
    return lambda folder: adapter(folder, text=content)


def fields(**changes: Any) -> Build:
    return lambda folder: adapter(folder, **changes)


def field_text(name: str, value: str) -> Build:
    """A config with a value that Python's writer would not write."""
    shown = json.dumps(config(**{name: "@"}))
    return text(shown.replace('"@"', value).encode())


def tensors(**changes: Any) -> Build:
    """The good config with tensors added, replaced, or (`...`) left out."""
    content = {**plain(), **changes}
    return fields(tensors={name: value for name, value in content.items() if value is not ...})


def no_config(folder: Path) -> Path:
    (adapter(folder) / CONFIG).unlink()
    return folder


def apart(module: str, **shape: int) -> dict[str, Any]:
    return lora(module, **shape)


C = "CONFIG"
add("C01", "missing", no_config, C, "cannot be read")
add("C02", "not-json", text(b"r: 8"), C, "not valid UTF-8 JSON")
add("C02", "array", text(b"[]"), C, "must hold an object")
add("C02", "larger-than-a-megabyte", text(b" " * 1_000_001), (C, "LIMIT"), "1000000")
add("C03", "byte-order-mark", text(b"\xef\xbb\xbf{}"), C, "byte-order mark")
add("C04", "5000-digits", field_text("r", "9" * 5000), C, "not valid UTF-8 JSON")
add("C04", "4000-digits", field_text("r", "9" * 4000), "LIMIT", "`r` is")
add("C04", "4000-digits-of-alpha", field_text("lora_alpha", "9" * 4000), "LIMIT", "`lora_alpha` is")
add("C05", "100000-deep", text(b"[" * 100_000 + b"]" * 100_000), C, "nested deeper than 32")
add("C05", "key-twice", text(b'{"r": 8, "r": 16}'), C, "`r` is listed twice")
for label, value, code in (
    ("billion", 10**9, "LIMIT"),
    ("million", 10**6, "LIMIT"),
    ("zero", 0, "LIMIT"),
    ("negative", -8, "LIMIT"),
    ("float", 1.5, C),
    ("true", True, C),
    ("text", "16", C),
    ("missing", ..., C),
    ("list", [8], C),
    ("object", {"r": 8}, C),
):
    add("C06", f"rank-{label}", fields(r=value), code, "`r` is .* whole number from 1 to 512")
add("C06", "rank-nan", field_text("r", "NaN"), C, "must be finite")
add("C06", "rank-1e999", field_text("r", "1e999"), C, "must be finite")
add(
    "C07", "rank-of-tensors-differs", fields(r=16), "MISMATCH", "rank 2 in its tensors, but rank 16"
)
add("C08", "rank-pattern-contradicts", fields(rank_pattern={"q_proj": 8}), "MISMATCH", "but rank 8")
add("C08", "rank-pattern-list", fields(rank_pattern=["q_proj"]), C, "must map module names")
for label, value, code in (
    ("missing", ..., C),
    ("zero", 0, C),
    ("negative", -1, C),
    ("text", "16", C),
    ("huge", 10**6, "LIMIT"),
    ("true", True, C),
):
    add("C09", f"alpha-{label}", fields(lora_alpha=value), code, "`lora_alpha` is")
add("C09", "alpha-nan", field_text("lora_alpha", "NaN"), C, "must be finite")
add("C09", "alpha-pattern-zero", fields(alpha_pattern={"q_proj": 0}), C, "`alpha_pattern` is 0")
add("C10", "a-without-b", tensors(**{B: ...}), "MISMATCH", "lora_A but no lora_B")
add("C10", "b-without-a", tensors(**{A: ...}), "MISMATCH", "lora_B but no lora_A")
add("C11", "ranks-differ", tensors(**{B: f32(6, 3)}), "MISMATCH", "must share one rank")
add(
    "C12",
    "module-not-in-base",
    fields(tensors={**plain(), **lora("model.layers.9.self_attn.q_proj")}),
    "MISMATCH",
    "is not a module of the base",
    with_base=True,
    entrances=LOADERS,
)
add(
    "C13",
    "another-size",
    fields(tensors={k: v for m in MODULES for k, v in lora(m, out=12, width=8).items()}),
    "MISMATCH",
    "needs",
    with_base=True,
    entrances=LOADERS,
)
add(
    "C13",
    "a-module-is-missing",
    fields(tensors=lora()),
    "MISMATCH",
    "",
    with_base=True,
    entrances=LOADERS,
)
add(
    "C14",
    "another-base-is-named",
    fields(base_model_name_or_path="acme/other"),
    OK,
    with_base=True,
    entrances=("load", "doctor"),
    warns="names the base `acme/other`",
)
add("C15", "bomb-in-target-list", fields(target_modules=[BOMB]), C, "only literal module names")
add("C15", "bomb-in-rank-pattern", fields(rank_pattern={BOMB: 4}), C, "only literal module names")
add("C15", "bomb-in-alpha-pattern", fields(alpha_pattern={BOMB: 4}), C, "only literal module names")
# A pattern as `target_modules` is legal PEFT: the tensors say which modules there are, and the
# pattern is kept out of every regular expression engine.
add("C15", "bomb-as-target-text", fields(target_modules=BOMB), OK, entrances=("load", "inspect"))
add(
    "C15",
    "bomb-in-exclude-modules",
    fields(exclude_modules=BOMB),
    OK,
    entrances=("load", "inspect"),
)
add(
    "C15",
    "bomb-in-layers-pattern",
    fields(layers_pattern=[BOMB], layers_to_transform=[0]),
    OK,
    entrances=("load", "inspect"),
)
for library in ("os", "planted", "transformers_evil", "a.b"):
    add(
        "C16",
        f"auto-mapping-{library}",
        fields(auto_mapping={"base_model_class": "Model", "parent_library": library}),
        "UNSAFE",
        "`auto_mapping` names",
    )
add("C16", "auto-mapping-text", fields(auto_mapping="os"), "UNSAFE", "`auto_mapping` names")
add(
    "C17",
    "megatron-core",
    fields(megatron_core="planted", megatron_config={"a": 1}),
    "UNSAFE",
    "`megatron_core` is `planted`",
)
add("C17", "megatron-config", fields(megatron_config={"a": 1}), "UNSAFE", "would import")
add(
    "C18",
    "unknown-keys",
    fields(future_field=1, other=[2]),
    OK,
    entrances=("load", "doctor"),
    warns="`future_field`, `other`",
)
for label, name in (
    ("internal-address", "http://169.254.169.254/latest"),
    ("dots", "../../../etc"),
    ("share", "//server/share"),
    ("backslash-share", "\\\\server\\share"),
    ("attacker", "attacker/model"),
    ("other-folder", "/etc"),
    ("home", "~/models"),
    ("unknown-home", "~nobody-here/x"),
    ("file", "file:///etc/passwd"),
    ("revision", "a/b@main"),
    ("dot", "."),
):
    add("C19", label, fields(base_model_name_or_path=name), "BASE", "", entrances=("apply",))
    add(
        "C19",
        f"{label}-read",
        fields(base_model_name_or_path=name),
        OK,
        entrances=("load", "inspect"),
    )
add(
    "C19", "10-kilobytes", fields(base_model_name_or_path="x" * 10_000), (C, "BASE"), "at most 4096"
)
add(
    "C19",
    "4-kilobytes",
    fields(base_model_name_or_path="x" * 4_000),
    "BASE",
    "",
    entrances=("apply",),
)


def cycle(folder: Path) -> Path:
    return adapter(folder, base_model_name_or_path=str(folder.resolve()))


add("C19", "itself", cycle, "BASE", "", entrances=("apply",))
for name, value in (
    ("use_dora", True),
    ("modules_to_save", ["lm_head"]),
    ("lora_bias", True),
    ("target_parameters", ["w1"]),
    ("trainable_token_indices", [1]),
    ("use_qalora", True),
    ("layer_replication", [[0, 1]]),
    ("bias", "all"),
    ("peft_type", "LOHA"),
    ("peft_type", ...),
    ("init_lora_weights", "pissa"),
):
    label = "missing" if value is ... else str(value)
    add("C20", f"{name}-{label}", fields(**{name: value}), C, f"`{name}` is")
for label, key in (
    ("lm-head", f"{PREFIX}lm_head.weight"),
    ("dora", f"{PREFIX}{MODULES[0]}.lora_magnitude_vector"),
    ("trained-tokens", f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta"),
    ("bias", f"{PREFIX}{MODULES[0]}.lora_B.bias"),
    ("kohya", "lora_unet_down_blocks_0.lora_down.weight"),
    ("embedding", f"{PREFIX}model.embed_tokens.lora_embedding_A"),
    ("nothing-known", "weight"),
):
    add(
        "C20",
        f"tensor-{label}",
        tensors(**{key: f32(6)}),
        C,
        "is |adapts an embedding",
        entrances=("load", "inspect", "convert", "apply", "zoo_add", "archive_of"),
    )


def diffusers(*keys: str) -> dict[str, Any]:
    return {key: f32(2, 4) if "lora_A" in key or "down" in key else f32(4, 2) for key in keys}


def two_candidates(folder: Path) -> Path:
    for name in ("one.safetensors", "two.safetensors"):
        (folder / name).write_bytes(raw(*header_of(plain())))
    return folder


def diffusers_file(*keys: str) -> Build:
    def build(folder: Path) -> Path:
        content = raw(*header_of(diffusers(*keys)))
        (folder / "pytorch_lora_weights.safetensors").write_bytes(content)
        return folder

    return build


add(
    "C21",
    "two-weight-files",
    two_candidates,
    "MISMATCH",
    "has 2 weight files",
    entrances=("load", "inspect", "doctor", "convert", "apply", "zoo_add"),
)
add("C21", "half-a-module", diffusers_file("unet.a.lora_A.weight"), "MISMATCH", "no `B`")
add(
    "C21",
    "missing-prefix",
    diffusers_file("a.lora_A.weight", "a.lora_B.weight"),
    ("FORMAT", "MISMATCH"),
    "",
)
add(
    "C21",
    "unknown-component",
    diffusers_file(
        "unet.a.lora_A.weight", "unet.a.lora_B.weight", "vae.a.lora_A.weight", "vae.a.lora_B.weight"
    ),
    ("FORMAT", "MISMATCH", C),
    "",
)
for label, name in (
    ("parent", "../x"),
    ("two-dashes", "a--b"),
    ("97-characters", "a/" + "b" * 95),
    ("revision", "owner/name@main"),
    ("query", "owner/name?x=1"),
    ("address", "https://example.org/owner/name"),
    ("loopback", "http://127.0.0.1:80/x"),
    ("nul", "a\0b"),
    ("5000-characters", "x" * 5000),
    ("unknown-home", "~nobody-here"),
    ("three-parts", "a/b/c"),
    ("empty", ""),
    ("unicode", "owner/\u202ename"),
):
    add("C22", label, lambda folder, name=name: name, "BASE", "", entrances=BASE_NAME)
