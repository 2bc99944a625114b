"""Kernel ridge from text to delta weight: linear in the zoo, so a prediction is a weighted sum.

Shapes: M entries, T texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import norm, scale
from lora_gen.evaluation.baselines.nearest import NearestText
from lora_gen.evaluation.baselines.weighted import weighted_sums
from lora_gen.evaluation.distances import zoo_gram
from lora_gen.zoo.store import Zoo

SHARPNESS = (2.0, 4.0, 8.0, 16.0, 32.0)
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
_TEXTS = 128  # sums computed in one reading of the zoo


class KernelRidge:
    """Ridge regression of the zoo's delta weights on their descriptions.

    The prediction for a text with kernel vector k is k (K + ridge I)^-1 applied to the zoo's delta
    weights. Kernel exp(sharpness (cosine - 1)); sharpness and ridge are those with the least
    leave-one-out error, which has a closed form in inner products of delta weights (Allen, 1974).
    Memory grows with the square of the number of entries.
    """

    def __init__(self, zoo: Zoo, nearest: NearestText, *, rank: int) -> None:
        self.zoo, self.nearest, self.rank = zoo, nearest, rank
        self.ids, self.vectors_ME = nearest.entry_vectors()
        gram_MM = zoo_gram(zoo, self.ids, self.ids)
        errors = {
            (sharpness, ridge): leave_one_out_error(self._kernel(sharpness), gram_MM, ridge)
            for sharpness in SHARPNESS
            for ridge in RIDGES
        }
        self.sharpness, self.ridge = min(errors, key=lambda key: errors[key])
        self.error = errors[self.sharpness, self.ridge]
        """Leave-one-out squared error, as a share of the zoo's squared norm."""
        self.size = float(gram_MM.diagonal().mean().sqrt())
        """Root mean square norm of the zoo's delta weights."""
        self._last: tuple[tuple[str, ...], list[Adapter]] = ((), [])
        kernel_MM = self._kernel(self.sharpness)
        eye_MM = torch.eye(len(self.ids), dtype=torch.float64)
        self.inverse_MM = torch.linalg.inv(kernel_MM + self.ridge * eye_MM)

    def weights(self, texts: Sequence[str]) -> Tensor:
        """The weight of every entry in every prediction, (T, M)."""
        cosines_TM = (self.nearest.embed(texts) @ self.vectors_ME.mT).double()
        weights_TM: Tensor = (self.sharpness * (cosines_TM - 1)).exp() @ self.inverse_MM
        return weights_TM

    def adapters(self, texts: Sequence[str]) -> list[Adapter]:
        """The predicted delta weights, cut to the rank."""
        if tuple(texts) == self._last[0]:
            return self._last[1]
        found: list[Adapter] = []
        for start in range(0, len(texts), _TEXTS):
            weights_TM = self.weights(texts[start : start + _TEXTS])
            found += weighted_sums(self.zoo, self.ids, weights_TM, rank=self.rank)
        self._last = (tuple(texts), found)
        return found

    def full_size(self, texts: Sequence[str]) -> list[Adapter]:
        """The predictions at the zoo's norm: least squares shrinks where the text says little."""
        return [scale(a, self.size / max(norm(a), 1e-12)) for a in self.adapters(texts)]

    def _kernel(self, sharpness: float) -> Tensor:
        cosines_MM = (self.vectors_ME @ self.vectors_ME.mT).double()
        return (sharpness * (cosines_MM - 1)).exp()


def leave_one_out_error(kernel_MM: Tensor, gram_MM: Tensor, ridge: float) -> float:
    """Squared error of predicting each entry from the others, as a share of the squared norm.

    With the smoother S = K (K + ridge I)^-1, the left-out residual of entry i is row i of
    (I - S) / (1 - S_ii), applied to the entries; its squared norm needs only their Gram matrix.
    """
    eye_MM = torch.eye(len(kernel_MM), dtype=kernel_MM.dtype)
    smoother_MM = torch.linalg.solve(kernel_MM + ridge * eye_MM, kernel_MM)
    residual_MM = (eye_MM - smoother_MM) / (1 - smoother_MM.diagonal())[:, None]
    return float(((residual_MM @ gram_MM) * residual_MM).sum() / gram_MM.diagonal().sum())
