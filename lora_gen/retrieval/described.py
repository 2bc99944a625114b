"""The file beside an encoder that says how good adapters with a description are."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from lora_gen.errors import GeneratorError
from lora_gen.files import atomic_write_bytes
from lora_gen.models.described_quality import DescribedEnsemble

DESCRIBED_NAME = "described.safetensors"


def save_described(ensemble: DescribedEnsemble, path: Path) -> None:
    """Write it in float16, whole or not at all."""
    tensors = {name: value.half().contiguous() for name, value in ensemble.state_dict().items()}
    atomic_write_bytes(path, save(tensors))


def load_described(path: Path) -> DescribedEnsemble:
    """The ensemble in a file.

    Raises:
        GeneratorError: It is damaged.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            found = {name: stream.get_tensor(name).float() for name in stream.keys()}  # noqa: SIM118
        ensemble = DescribedEnsemble(
            found["reads"].shape[1],
            len(found["text_center"]),
            halves=len(found["match_mean"]) > 2,
            members=len(found["reads"]),
        )
        ensemble.load_state_dict(found)
    except (OSError, KeyError, IndexError, RuntimeError, SafetensorError) as error:
        raise GeneratorError(
            f"`{path}` holds no quality of described adapters ({error}). Train the encoder again, "
            "or delete it."
        ) from error
    return ensemble.requires_grad_(False).train(False)


def text_moments(text_TE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (E,) and covariance (E, E) of the vectors of descriptions."""
    center_E = text_TE.mean(0)
    offset_TE = text_TE - center_E
    return center_E, offset_TE.mT @ offset_TE / len(text_TE)
