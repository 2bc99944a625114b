"""Door to an embedding base: texts in, unit vectors out, with any number of adapters at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lora_gen.adapter.base_model import BaseModelSpec, resolve_base
from lora_gen.adapter.stacked import StackedFactors, stack_adapters, stacked_adapters
from lora_gen.conditioning.text import TextEncoder, TextStates, check_text

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter

_LINEARS = (
    *("attention.self.query", "attention.self.key", "attention.self.value"),
    *("attention.output.dense", "intermediate.dense", "output.dense"),
)


def first_lens_block(spec: BaseModelSpec) -> int:
    """Number of the first block that a lens adapts.

    The upper third: what a word means is read below, and a lens that may change it learns the words
    of its examples instead of what they have in common (recipes/LOG.md).
    """
    return spec.num_layers * 2 // 3


def lens_targets(spec: BaseModelSpec) -> tuple[str, ...]:
    """Suffixes of what a lens adapts: every linear module of the upper third of the blocks."""
    blocks = range(first_lens_block(spec), spec.num_layers)
    return tuple(f"layer.{i}.{name}" for i in blocks for name in _LINEARS)


class Embedder:
    """A frozen Transformers encoder whose vectors are means over token states, of length 1.

    That is what sentence-transformers does with all-MiniLM-L6-v2, and so are the vectors.

    Attributes:
        encoder: The base and its tokenizer.
        spec: What an adapter has to know of the base.
    """

    def __init__(self, encoder: TextEncoder, spec: BaseModelSpec) -> None:
        self.encoder, self.spec = encoder, spec

    @classmethod
    def from_pretrained(
        cls, base: str | Path = "minilm", *, dtype: torch.dtype = torch.float32
    ) -> Embedder:
        """The embedder on a base, on the CPU.

        Args:
            base: `minilm`, the folder of an encoder, or a hub id.
            dtype: Of the frozen weights; bfloat16 trains faster where the CPU has it.

        Raises:
            BaseModelError: There is no such base.
            ConditionError: The base is no encoder of text.
        """
        folder = resolve_base(str(base))
        encoder = TextEncoder.from_pretrained(folder)
        encoder.model.to(dtype=dtype)
        if dtype == torch.bfloat16:  # the fused attention's backward took a third of a step there
            encoder.model.set_attn_implementation("eager")
        return cls(encoder, BaseModelSpec.from_config(str(base)))

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(token ids, mask) of texts, (N, K) each.

        A longer text is cut at `encoder.max_tokens`, as sentence-transformers cuts it.
        """
        batch = self.encoder.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.encoder.max_tokens,
            return_tensors="pt",
        )
        return batch["input_ids"], batch["attention_mask"]

    def vectors_of(
        self, ids_NK: Tensor, mask_NK: Tensor, factors: StackedFactors | None = None
    ) -> Tensor:
        """Unit vectors (N, E) float32 of token ids in one pass; gradients flow into the factors.

        Args:
            ids_NK: Adapter-major where there are several adapters.
            mask_NK: 1 where a token is.
            factors: Stack of adapters.
        """
        model = self.encoder.model
        ids_NK, mask_NK = ids_NK.to(model.device), mask_NK.to(model.device)
        with stacked_adapters(model, factors) if factors else nullcontext():
            output = model(input_ids=ids_NK, attention_mask=mask_NK)
        states = output.last_hidden_state.float()
        return self.encoder.pool(TextStates(states=states, mask=mask_NK > 0))

    @torch.no_grad()
    def read(self, texts: Sequence[str], *, batch_size: int = 64) -> list[Tensor]:
        """States (L, E) of each text's tokens in front of the first block that a lens adapts.

        No lens changes them, so that reading once serves all lenses. For encoders like BERT.

        Args:
            texts: At least one.
            batch_size: Texts in one pass, of like length.
        """
        model: Any = self.encoder.model
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids_NK, mask_NK = (
                part.to(model.device) for part in self.tokens([texts[i] for i in rows])
            )
            states_NKE = model.embeddings(input_ids=ids_NK)
            for block in model.encoder.layer[: first_lens_block(self.spec)]:
                states_NKE = block(states_NKE, _additive(mask_NK, states_NKE.dtype))
            lengths = mask_NK.sum(1).tolist()
            found |= {i: states_NKE[j, : lengths[j]].clone() for j, i in enumerate(rows)}
        return [found[i] for i in range(len(texts))]

    def vectors_from(
        self, states: Sequence[Tensor], factors: StackedFactors | None = None
    ) -> Tensor:
        """Unit vectors (N, E) float32 of texts that were `read`, in one pass, with gradients."""
        model: Any = self.encoder.model
        states_NKE = pad_sequence(list(states), batch_first=True).to(model.device)
        lengths_N = torch.tensor([len(one) for one in states], device=model.device)
        mask_NK = torch.arange(states_NKE.shape[1], device=model.device) < lengths_N[:, None]
        with stacked_adapters(model, factors) if factors else nullcontext():
            for block in model.encoder.layer[first_lens_block(self.spec) :]:
                states_NKE = block(states_NKE, _additive(mask_NK, states_NKE.dtype))
        return self.encoder.pool(TextStates(states=states_NKE.float(), mask=mask_NK))

    def vectors(self, texts: Sequence[str], factors: StackedFactors | None = None) -> Tensor:
        """Unit vectors (N, E) float32 of texts in one pass, with gradients."""
        return self.vectors_of(*self.tokens(texts), factors)

    @torch.no_grad()
    def embed(
        self, texts: Sequence[str], adapter: Adapter | None = None, *, batch_size: int = 64
    ) -> Tensor:
        """Unit vectors (N, E) float32 of texts, with one adapter or none.

        Args:
            texts: At least one.
            adapter: A lens.
            batch_size: Texts in one pass; they are sorted by length, so few tokens are padding.

        Raises:
            ConditionError: A text is empty or not usable.
        """
        checked = [check_text(text, subject=f"texts[{i}]") for i, text in enumerate(texts)]
        factors = stack_adapters([adapter]) if adapter else None
        order = sorted(range(len(checked)), key=lambda i: len(checked[i]))
        found = torch.empty(len(checked), int(self.encoder.width))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            found[rows] = self.vectors([checked[i] for i in rows], factors).cpu()
        return found


def _additive(mask_NK: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a token is, the least number elsewhere, as attention adds it."""
    blank = mask_NK[:, None, None] == 0
    return torch.zeros(blank.shape, dtype=dtype, device=blank.device).masked_fill(
        blank, torch.finfo(dtype).min
    )
