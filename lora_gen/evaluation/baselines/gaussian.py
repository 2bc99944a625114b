"""A Gaussian in token space: what a generator that learned only means and spreads would write."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.codec.codec import AdapterCodec
from lora_gen.zoo.store import Zoo


class TokenGaussian:
    """Mean and standard deviation of every token value over the zoo, fitted in one pass.

    Raises:
        LayoutMismatchError: An adapter of the zoo does not fit the codec's layout.
        ZooError: There is no entry.
    """

    def __init__(self, zoo: Zoo, ids: Sequence[str], codec: AdapterCodec) -> None:
        self.codec = codec
        shape = (codec.layout.num_tokens, codec.layout.width + 1)
        mean_ND, square_ND = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
        for count, entry_id in enumerate(ids, start=1):
            tokens_ND = codec.encode(zoo.load(entry_id)).double()
            change_ND = tokens_ND - mean_ND
            mean_ND += change_ND / count
            square_ND += change_ND * (tokens_ND - mean_ND)  # Welford's sum
        self.mean_ND = mean_ND
        self.std_ND = (square_ND / max(len(ids), 1)).sqrt()

    def draw(
        self, generator: torch.Generator, *, base: str | None, task_type: str | None
    ) -> Adapter:
        """An adapter with every token value drawn by itself."""
        noise_ND = torch.randn(self.mean_ND.shape, generator=generator, dtype=torch.float64)
        tokens_ND = (self.mean_ND + self.std_ND * noise_ND).float()
        return self.codec.decode(tokens_ND, base=base, task_type=task_type)
