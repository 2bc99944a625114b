"""Frames of the residual stream that mean the same in every base: directions of known words.

A column is a fixed mixture of the base's own embeddings of a fixed list of words, times the gain of
the norm before a module that reads the stream. The mixture is the same for every base and width, so
coordinates can be compared between bases. Heads and inner layers have no shared basis: they are
seen through hashed frames. Reads only the embedding and the norms, no forward pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lora_gen.adapter.base_model import resolve_base
from lora_gen.codec.roles import role_of
from lora_gen.errors import BaseModelError
from lora_gen.retrieval.frames import Side, hashed_frame

_TEXT = """
the of and to in is that for it as was with be by on not he his but at are this have from
or one had an they which you we all her she there would their will when who him been has
more if no out so what up said its about than into them can only other time new some
could these two may first then do any like my now over such our man me even most made
after also did many off before must well back through years where much your way down
should because long each just state those people too little world good day go how see
work year get use make know take three word text number letter name date code list line
question answer true false yes red green blue cat dog house water city king money music
math law doctor church war love I a b c d e f g h i j k l m n o p q r s t u v w x y z A B
C D E F G H J K L M N O P Q R S T U V W X Y Z 0 1 2 3 4 5 6 7 8 9 10 100 . , ; : ! ? - _
/ ( ) [ ] { } < > = + * % $ # @ & ' "
"""
WORDS = tuple(_TEXT.split())
"""The anchors; another list makes other frames."""

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "shared.weight")
_READERS = {
    **dict.fromkeys(("q", "k", "v", "qkv"), ("input_layernorm", "ln_1")),
    **dict.fromkeys(("gate", "up"), ("post_attention_layernorm", "ln_2")),
}
_WRITERS = ("o", "down")
_LAYER = re.compile(r"^(.*?\.\d+)\.")


class AnchorFrames:
    """See the module.

    Args:
        words: The base's embeddings of the anchors, (hidden, words).
        gains: Norm's path -> its weight, (hidden,).
        sketch: P, directions in a frame.
    """

    def __init__(self, words: Tensor, gains: Mapping[str, Tensor], *, sketch: int = 32) -> None:
        self.sketch = sketch
        unit = torch.nn.functional.normalize(words.double(), dim=0)
        mixture = hashed_frame("anchor", words.shape[1], sketch)
        self._frame = unit @ mixture
        self._gains = {name: gain.double() for name, gain in gains.items()}

    @classmethod
    def from_base(cls, base: str, *, sketch: int = 32) -> AnchorFrames:
        """The frames of a base: an embedded id, a folder or a hub id.

        Raises:
            BaseModelError: It has no token embedding that can be read.
        """
        folder = resolve_base(base)
        try:
            names = _files(folder)
            found = next(n for end in _EMBEDDINGS for n in names if n.endswith(end))
            embedding = _tensor(folder / names[found], found)
            norms = [n for n in names if _LAYER.match(n) and n.endswith(("norm.weight", ".weight"))]
            kinds = {kind for options in _READERS.values() for kind in options}
            gains = {
                name.removesuffix(".weight"): _tensor(folder / names[name], name)
                for name in norms
                if name.split(".")[-2] in kinds
            }
        except (OSError, ValueError, KeyError, StopIteration, SafetensorError) as error:
            raise BaseModelError(
                f"`{base}` has no token embedding in safetensors that anchors could be read from "
                f"({type(error).__name__}). Use hashed frames."
            ) from error
        return cls(embedding[_token_ids(folder)].double().mean(1).mT, gains, sketch=sketch)

    def of(self, module: str, side: Side, width: int) -> tuple[str, Tensor]:
        """See `Frames.of`."""
        role = role_of(module)
        if width == len(self._frame) and side == "out" and role in _WRITERS:
            return "anchor/out", self._frame
        if width == len(self._frame) and side == "in" and role in _READERS:
            norm = self._norm_before(module, _READERS[role])
            if norm is not None:
                return f"anchor/{norm}", self._gains[norm][:, None] * self._frame
            return "anchor/in", self._frame
        return f"{side}/{width}", hashed_frame(side, width, self.sketch)

    def _norm_before(self, module: str, kinds: Sequence[str]) -> str | None:
        layer = _LAYER.match(module)
        names = [f"{layer[1]}.{kind}" for kind in kinds] if layer else []
        return next((name for name in names if name in self._gains), None)


def _files(folder: Path) -> dict[str, str]:
    """Tensor name -> file of a base's folder."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    with safe_open(folder / "model.safetensors", framework="pt") as stream:
        return dict.fromkeys(stream.keys(), "model.safetensors")


def _tensor(path: Path, name: str) -> Tensor:
    with safe_open(path, framework="pt") as stream:
        found: Tensor = stream.get_tensor(name)
    return found


def _token_ids(folder: Path) -> Tensor:
    """Tokens of each anchor, the first eight repeated to eight, (words, 8)."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    rows = []
    for word in WORDS:
        ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"] or [0]
        rows.append([ids[i % len(ids)] for i in range(8)])
    return torch.tensor(rows)
