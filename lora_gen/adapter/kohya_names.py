"""The tensor names of kohya's LoRA files; they stand here and nowhere else.

A UNet's modules are spelled after Diffusers (SD 1 and 2) or after the original code (SDXL:
`input_blocks`, `middle_block`, `output_blocks`), whose numbers count blocks over the whole model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

PREFIXES: Mapping[str, str] = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
}
"""Prefix of a key -> component of the pipeline."""

_CLIP = "text_model."
_CLIP_LAYERS = "encoder.layers."
_BLOCK = re.compile(
    r"(?P<way>down|up|mid)_blocks?\.(?:(?P<block>\d+)\.)?"
    r"(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<index>\d+)\.(?P<rest>.+)"
)
_ROOTS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def names_of(modules: Collection[str], *, original: bool = True) -> dict[str, tuple[str, ...]]:
    """Every key name in use -> the modules that it can mean; more than one is ambiguous.

    Args:
        modules: Module paths that begin with a component; all of the base's, for the original
            names count its blocks.
        original: Also spell the UNet after the original code.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    unet = [name.removeprefix("unet.") for name in modules if name.startswith("unet.")]
    originals = original_paths(unet) if original else {}
    for module in modules:
        component, _, path = module.partition(".")
        for prefix in (prefix for prefix, part in PREFIXES.items() if part == component):
            for spelled in _spellings(component, path, originals):
                found[prefix + spelled.replace(".", "_")].add(module)
    return {name: tuple(sorted(paths)) for name, paths in found.items()}


def _spellings(component: str, path: str, originals: Mapping[str, str]) -> Iterator[str]:
    yield path
    if component == "unet" and path in originals:
        yield originals[path]
    if component != "unet":
        yield path.removeprefix(_CLIP) if path.startswith(_CLIP) else _CLIP + path


def key_of(module: str, two_encoders: bool) -> str | None:
    """The key name that trainers and web UIs use for a module; None where there is none.

    Args:
        module: Module path with its component.
        two_encoders: Whether the pipeline has two text encoders, as SDXL.
    """
    component, _, path = module.partition(".")
    prefixes = [prefix for prefix, part in PREFIXES.items() if part == component]
    if not prefixes or not path:
        return None
    if component.startswith("text_encoder") and path.startswith(_CLIP_LAYERS):
        path = _CLIP + path  # readers know CLIP by the name that it had before Transformers 5
    prefix = prefixes[-1] if two_encoders else prefixes[0]
    return prefix + path.replace(".", "_")


def original_paths(modules: Collection[str]) -> dict[str, str]:
    """UNet module path -> its path in the original Stable Diffusion code.

    Source: the layout of `openaimodel.py` in CompVis/latent-diffusion: every resnet, every
    downsampler and the input convolution take one number; an upsampler shares its resnet's.

    Args:
        modules: All module paths of the UNet, without component.
    """
    matches = {name: match for name in modules if (match := _BLOCK.fullmatch(name))}
    found: defaultdict[tuple[str, str, str], set[int]] = defaultdict(set)
    for match in matches.values():
        found[match["way"], match["block"], match["kind"]].add(int(match["index"]))
    starts = _block_starts(found)
    paths = {name: _ROOTS[name] for name in modules if name in _ROOTS}
    for name, match in matches.items():
        way, block, rest = match["way"], match["block"], match["rest"]
        if match["kind"] == "resnets":
            rest = _RESNET.get(rest, rest)
        resnets = len(found[way, block, "resnets"])
        attends = bool(found[way, block, "attentions"])
        paths[name] = _original_path(match, starts.get((way, block), 0), resnets, attends, rest)
    return paths


def _block_starts(found: Mapping[tuple[str, str, str], set[int]]) -> dict[tuple[str, str], int]:
    """The original number of each block's first resnet."""
    starts: dict[tuple[str, str], int] = {}
    for way, number in (("down", 1), ("up", 0)):
        for block in sorted({block for part, block, _ in found if part == way}, key=int):
            starts[way, block] = number
            number += len(found.get((way, block, "resnets"), ()))
            number += len(found.get((way, block, "downsamplers"), ()))
    return starts


def _original_path(match: re.Match[str], start: int, resnets: int, attends: bool, rest: str) -> str:
    index, kind = int(match["index"]), match["kind"]
    is_attention = int(kind == "attentions")
    if match["way"] == "mid":
        return f"middle_block.{2 * index + is_attention}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{start + resnets}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{start + resnets - 1}.{1 + attends}.conv"
    side = "input" if match["way"] == "down" else "output"
    return f"{side}_blocks.{start + index}.{is_attention}.{rest}"
