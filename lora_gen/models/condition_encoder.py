"""Text states, prompts, examples and base features to one sequence of condition tokens."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lora_gen.conditioning.base import NUM_BASE_FEATURES
from lora_gen.conditioning.condition import Condition
from lora_gen.models.blocks import FeedForward, GatedRecurrence

PARTS = ("text", "prompts", "examples", "base")
NUM_LATENT_TOKENS = 4
"""Condition tokens that one latent becomes."""


class ByteEncoder(nn.Module):
    """A small recurrent reader of raw bytes.

    Case and punctuation matter, and text encoders fold them away.
    """

    def __init__(self, byte_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, byte_dim, padding_idx=0)
        self.convolution = nn.Conv1d(byte_dim, byte_dim, 5, padding=2)
        self.norm = nn.LayerNorm(byte_dim)
        self.recurrence = GatedRecurrence(byte_dim)
        self.output = nn.Linear(2 * byte_dim, hidden_dim)

    def forward(self, bytes_BPL: Tensor) -> Tensor:
        """One vector for each string, (B, P, H); byte values are shifted by 1, 0 is padding."""
        batch, count, length = bytes_BPL.shape
        flat = bytes_BPL.view(batch * count, length)
        x = self.embedding(flat)
        x = x + nn.functional.silu(self.convolution(x.mT).mT)
        x = x + self.recurrence(self.norm(x))
        mask = (flat != 0)[..., None].to(x.dtype)
        lengths = mask.sum(1).clamp_min(1)
        mean = (x * mask).sum(1) / lengths
        last = x.gather(1, (lengths.long() - 1)[..., None].expand(-1, 1, x.shape[-1])).squeeze(1)
        encoded: Tensor = self.output(torch.cat([mean, last], -1)).view(batch, count, -1)
        return encoded


class ConditionEncoder(nn.Module):
    """Each part of the condition becomes tokens; a missing part becomes its learned null token.

    Args:
        text_dim: Width of the text encoder's states.
        hidden_dim: H.
        byte_dim: Width of the byte readers.
        example_dim: Width of the base's states of examples; 0 where they are not read.
        latent_dim: Width of the latent; 0 where there is none.
    """

    def __init__(
        self,
        text_dim: int,
        hidden_dim: int,
        byte_dim: int,
        *,
        example_dim: int = 0,
        latent_dim: int = 0,
    ) -> None:
        super().__init__()
        # Dropout on text states: an unseen wording is near, not equal, to a seen one.
        self.text = nn.Sequential(
            nn.LayerNorm(text_dim), nn.Dropout(0.1), nn.Linear(text_dim, hidden_dim)
        )
        self.text_mix = nn.Sequential(nn.LayerNorm(hidden_dim), FeedForward(hidden_dim, 2))
        self.prompts = ByteEncoder(byte_dim, hidden_dim)
        self.examples = ByteEncoder(byte_dim, hidden_dim)
        self.base = nn.Sequential(
            nn.Linear(NUM_BASE_FEATURES, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim)
        )
        self.kind = nn.Parameter(torch.randn(len(PARTS), hidden_dim) * 0.02)
        self.null = nn.Parameter(torch.randn(len(PARTS), hidden_dim) * 0.02)
        self.norm = nn.LayerNorm(hidden_dim)
        self.example_states = (
            nn.Sequential(
                nn.LayerNorm(example_dim),
                nn.Linear(example_dim, hidden_dim),
                FeedForward(hidden_dim, 2),
                nn.LayerNorm(hidden_dim),
            )
            if example_dim
            else None
        )
        self.latent = (
            nn.Sequential(
                nn.Linear(latent_dim, hidden_dim),
                nn.SiLU(),
                nn.Linear(hidden_dim, NUM_LATENT_TOKENS * hidden_dim),
            )
            if latent_dim
            else None
        )

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """(memory (B, K, H), mask (B, K) True where valid)."""
        batch = condition.batch_size
        memory, masks = [], []
        for i, part in enumerate(PARTS):
            tokens, mask = self._part(part, condition)
            missing_B = (
                ~mask.any(1)
                if mask is not None
                else torch.ones(batch, dtype=torch.bool, device=self.null.device)
            )
            memory.append(self.null[i].expand(batch, 1, -1))
            masks.append(missing_B[:, None])
            if tokens is not None and mask is not None:
                memory.append(tokens + self.kind[i])
                masks.append(mask)
        for extra, mask in self._learned_later(condition):
            memory.append(extra)
            masks.append(mask)
        memory_BKH: Tensor = self.norm(torch.cat(memory, 1))
        return memory_BKH, torch.cat(masks, 1)

    def _learned_later(self, condition: Condition) -> Iterator[tuple[Tensor, Tensor]]:
        """Parts that not every generator has: without them, memory is as it was before."""
        states, mask = condition.example_states, condition.example_mask
        if self.example_states is not None and states is not None and mask is not None:
            yield self.example_states(states), mask
        if self.latent is not None and condition.latent is not None:
            flat = self.latent(condition.latent)
            tokens = flat.view(flat.shape[0], NUM_LATENT_TOKENS, -1)
            yield tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)

    def _part(self, part: str, condition: Condition) -> tuple[Tensor | None, Tensor | None]:
        if part == "text" and condition.text_states is not None:
            x = self.text(condition.text_states)
            return x + self.text_mix(x), condition.text_mask
        if part == "prompts" and condition.prompt_bytes is not None:
            return self.prompts(condition.prompt_bytes), (condition.prompt_bytes != 0).any(-1)
        if part == "examples" and condition.example_bytes is not None:
            return self.examples(condition.example_bytes), (condition.example_bytes != 0).any(-1)
        if part == "base" and condition.base_features is not None:
            features = condition.base_features[:, None]
            return self.base(features), (features != 0).any(-1)
        return None, None
