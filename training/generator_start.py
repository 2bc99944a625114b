"""The weights of an earlier generator as the start of a new one."""

from __future__ import annotations

from pathlib import Path

from lora_gen.codec.scaling import TokenScaling
from lora_gen.errors import ConfigError
from lora_gen.models.recurrent_denoiser import RecurrentDenoiser

LEARNED_LATER = ("condition_encoder.example_states.", "condition_encoder.latent.")
"""Parts that a generator may lack without being another network."""


def start_scaling(folder: Path) -> TokenScaling:
    """The scale of tokens that the generator in `folder` knows; another would rescale its output.

    Raises:
        GeneratorError: There is no generator.
    """
    from lora_gen.pipeline import LoraGenPipeline

    found: TokenScaling = LoraGenPipeline.from_pretrained(folder).denoiser.token_scaling
    return found


def start_weights(denoiser: RecurrentDenoiser, folder: Path) -> None:
    """Copy the weights of the generator in `folder`; parts that it lacks keep their fresh start.

    Raises:
        ConfigError: It is a network of another size.
        GeneratorError: There is no generator.
    """
    from lora_gen.pipeline import LoraGenPipeline

    found = LoraGenPipeline.from_pretrained(folder).denoiser.state_dict()
    own = denoiser.state_dict()
    wrong = [name for name in found if name not in own or own[name].shape != found[name].shape]
    lacking = [n for n in own if n not in found and not n.startswith(LEARNED_LATER)]
    if wrong or lacking:
        raise ConfigError(
            f"`task.start_from` names `{folder}`, whose network differs at "
            f"`{(wrong or lacking)[0]}`. Set `task.model` as it was trained, or leave it out."
        )
    denoiser.load_state_dict(found, strict=False)
