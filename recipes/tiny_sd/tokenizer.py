"""A tokenizer in CLIP's file format whose tokens are the words of the world's captions."""

from __future__ import annotations

import json
import random

from tokenizers import Tokenizer, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from recipes.tiny_sd.world.scenes import draw_scene

MAX_TOKENS = 16
STYLIZED = "stylized"
"""The word that tells the base's pretraining that a picture has some style, not which."""


def caption_of(caption: str, *, stylized: bool) -> str:
    """The caption that the base is pretrained on."""
    return f"{caption}, {STYLIZED}" if stylized else caption


def build_tokenizer(vocab_size: int = 640) -> CLIPTokenizer:
    """Bytes first, then merges until every word of a caption is one token."""
    rng = random.Random(0)
    captions = [caption_of(draw_scene(rng).caption, stylized=True) for _ in range(4000)]
    start, end = "<|startoftext|>", "<|endoftext|>"
    backend: Tokenizer = CLIPTokenizer(vocab={start: 0, end: 1}, merges=[]).backend_tokenizer
    backend.train_from_iterator(
        captions,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            show_progress=False,
            special_tokens=[start, end],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            end_of_word_suffix="</w>",
        ),
    )
    model = json.loads(backend.to_str())["model"]
    vocab = dict(model["vocab"])
    # A character that ends a word needs a token of its own, seen in a caption or not.
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab.setdefault(f"{character}</w>", len(vocab))
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)
