"""Zero-shot lines as padded tensors, `<bos>input<TAB>output<NEWLINE>`, and their labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recipes.tiny_lm.tokenizer import BOS, PAD, encode_line

IGNORE = -100


def pad_lines(pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """(input ids, labels), both (len(pairs), T); IGNORE outside the output and its newline."""
    rows = [np.concatenate([[BOS], encode_line(*pair)]) for pair in pairs]
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), PAD)
    labels = torch.full((len(rows), width), IGNORE)
    for i, (row, (text, _)) in enumerate(zip(rows, pairs, strict=True)):
        start = len(text.encode()) + 2
        ids[i, : len(row)] = torch.from_numpy(row)
        labels[i, start : len(row)] = ids[i, start : len(row)]
    return ids, labels
