"""How good a generated adapter is, told from its weights and its description.

What an encoder says of trained adapters does not hold for generated ones: an adapter that a
generator made for a task it cannot do has all the marks of a good one. What tells them apart is
how near the description, and the adapter, lie to what the generator learned from. A ridge
regression on both, fitted and calibrated on generated adapters whose accuracy was measured, comes
with the encoder.

Shapes: B adapters, E width of a vector, S width of what quality reads, F of what is read here, M
tasks that the generator learned, K knots.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lora_gen.errors import GeneratorError
from lora_gen.files import atomic_write_bytes

GENERATED_NAME = "generated.safetensors"
_NEAREST = 5
_STEP = 127.0


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What the generator learned from, as the encoder sees it."""

    texts: Tensor
    """A description of each task, (M, E)."""
    adapters: Tensor
    """An adapter of each task, (M, E)."""

    def near(self, text_BE: Tensor, vector_BE: Tensor) -> Tensor:
        """How near descriptions and adapters lie to each other and to all of this, (B, 16).

        Both halves of a vector are compared on their own: what words say of a task, and what it is
        to the base.
        """
        parts = []
        for half in (0, 1):
            text_BH, vector_BH, texts_MH, adapters_MH = (
                nn.functional.normalize(x.chunk(2, -1)[half].float(), dim=-1)
                for x in (text_BE, vector_BE, self.texts, self.adapters)
            )
            pairs = (
                text_BH @ texts_MH.mT,
                text_BH @ adapters_MH.mT,
                vector_BH @ texts_MH.mT,
                vector_BH @ adapters_MH.mT,
            )
            parts.append((text_BH * vector_BH).sum(1))
            parts += [found_BM.amax(1) for found_BM in pairs]
            parts += [
                found_BM.topk(min(_NEAREST, found_BM.shape[1])).values.mean(1)
                for found_BM in (*pairs[:2], pairs[3])
            ]
        return torch.stack(parts, 1)


@dataclass(frozen=True, kw_only=True)
class GeneratedQuality:
    """Ridge regression of accuracy, and a conformal interval around it."""

    learned: Learned
    mean: Tensor
    """Of what is read, (F,)."""
    std: Tensor
    """(F,)"""
    weights: Tensor
    """(F + 1,); the last is the offset."""
    knots: Tensor
    """Predictions, ascending, (K,)."""
    errors: Tensor
    """Mean absolute error near each knot, (K,)."""
    reach: Tensor
    """Conformal quantile of the error in units of that mean, ()."""
    limit: Tensor
    """Largest root mean square of what is read, in standard deviations, that counts as known, ()"""
    max_rank: Tensor
    """Largest rank among the adapters it was calibrated on, ()."""

    def inputs(self, told_BS: Tensor, text_BE: Tensor, vector_BE: Tensor) -> Tensor:
        """What is read of adapters, (B, F).

        Args:
            told_BS: From `AdapterEncoder.quality_input`, with the agreement.
            text_BE: Vectors of their descriptions.
            vector_BE: Their own.
        """
        return generated_inputs(self.learned, told_BS, text_BE, vector_BE)

    def predict(self, input_BF: Tensor) -> Tensor:
        """Expected accuracy, (B,)."""
        known_BF = self._standard(input_BF)
        return (known_BF @ self.weights[:-1] + self.weights[-1]).clamp(0, 1)

    def interval(self, predicted_B: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends of the calibrated interval, (B,) each."""
        width_B = self.reach * interpolated(predicted_B, self.knots, self.errors)
        return (predicted_B - width_B).clamp_min(0), (predicted_B + width_B).clamp_max(1)

    def distance(self, input_BF: Tensor) -> Tensor:
        """Root mean square of what is read, in standard deviations, (B,)."""
        return ((input_BF - self.mean) / self.std).square().mean(1).sqrt()

    def _standard(self, input_BF: Tensor) -> Tensor:
        return ((input_BF - self.mean) / self.std).clamp(-5, 5)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all; what was learned takes a byte a number."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        for name, value in vars(self.learned).items():
            tensors[name] = (value * _STEP).round().clamp(-127, 127).to(torch.int8)
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        atomic_write_bytes(path, save(contiguous))

    @classmethod
    def load(cls, path: Path) -> GeneratedQuality:
        """What a file holds.

        Raises:
            GeneratorError: It is damaged.
        """
        try:
            with safe_open(path, framework="pt") as stream:
                found = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            learned = {name: found.pop(name).float() / _STEP for name in ("texts", "adapters")}
            return cls(learned=Learned(**learned), **found)
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise GeneratorError(
                f"`{path}` holds no calibration for generated adapters ({error}). Make it again "
                "with `python -m lora_gen.evaluation.encoder_generated`, or delete it."
            ) from error


def generated_inputs(
    learned: Learned, told_BS: Tensor, text_BE: Tensor, vector_BE: Tensor
) -> Tensor:
    """See `GeneratedQuality.inputs`."""
    return torch.cat([told_BS, text_BE, learned.near(text_BE, vector_BE)], 1)


def interpolated(x_B: Tensor, knots_K: Tensor, values_K: Tensor) -> Tensor:
    """Values between knots, along straight lines; those of the outer knots beyond them, (B,)."""
    x_B = x_B.clamp(float(knots_K[0]), float(knots_K[-1]))
    right_B = torch.searchsorted(knots_K, x_B.contiguous()).clamp(1, len(knots_K) - 1)
    left_K, right_K = knots_K[right_B - 1], knots_K[right_B]
    share_B = (x_B - left_K) / (right_K - left_K)
    found: Tensor = torch.lerp(values_K[right_B - 1], values_K[right_B], share_B)
    return found
