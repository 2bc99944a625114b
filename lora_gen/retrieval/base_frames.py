"""Frames that follow a base: the directions along which it is used, and along which it listens.

For each module, the input side is seen along the main directions of the module's own inputs on
probe lines, the output side along the main directions of the loss's gradients with respect to its
outputs: the two Kronecker factors of the Fisher information (Martens & Grosse, arXiv 1503.05671).
A direction that no input takes, or that no output depends on, says nothing about what an adapter
does. They are computed once for a base, with a forward and a backward pass over a few hundred
lines; an encoder carries those of its bases, so that reading an adapter runs no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lora_gen.errors import GeneratorError
from lora_gen.files import atomic_write_bytes
from lora_gen.retrieval.frames import Side, hashed_frame

FRAMES_NAME = "frames.safetensors"


class BaseFrames:
    """See the module; modules it does not know are seen through hashed frames.

    Args:
        frames: Module path and side, as `path/in` or `path/out` -> orthonormal columns (width, P).
    """

    def __init__(self, frames: Mapping[str, Tensor]) -> None:
        self.frames = {name: frame.double() for name, frame in frames.items()}
        self.sketch = next(iter(self.frames.values())).shape[1]

    def of(self, module: str, side: Side, width: int) -> tuple[str, Tensor]:
        """See `Frames.of`."""
        found = self.frames.get(f"{module}/{side}")
        if found is None or len(found) != width:
            return f"{side}/{width}", hashed_frame(side, width, self.sketch)
        return f"{module}/{side}", found

    def save(self, path: Path) -> None:
        """Write the frames in float16, whole or not at all."""
        tensors = {name: frame.half().contiguous() for name, frame in self.frames.items()}
        atomic_write_bytes(path, save(tensors))

    @classmethod
    def load(cls, path: Path) -> BaseFrames:
        """The frames in a file.

        Raises:
            GeneratorError: It holds no frames.
        """
        try:
            with safe_open(path, framework="pt") as stream:
                found = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return cls(found)
        except (OSError, StopIteration, IndexError, SafetensorError) as error:
            raise GeneratorError(
                f"`{path}` holds no frames of a base ({error}). Train the encoder again."
            ) from error


def main_directions(second_moment_II: Tensor, count: int) -> Tensor:
    """The eigenvectors with the largest eigenvalues, (I, count); zeros where there are no more.

    Signs are fixed, so that equal moments give equal frames.
    """
    _, vectors_II = torch.linalg.eigh(second_moment_II.double())
    found_IP = vectors_II.flip(1)[:, :count]
    largest_P = found_IP.abs().argmax(0)
    found_IP = found_IP * found_IP[largest_P, torch.arange(found_IP.shape[1])].sign()
    return torch.nn.functional.pad(found_IP, (0, count - found_IP.shape[1]))
