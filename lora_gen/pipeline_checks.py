"""What a request, a noise scheduler and a base must be before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.errors import BaseModelError, GeneratorError

if TYPE_CHECKING:
    import torch

MAX_ADAPTERS = 64
MAX_STEPS = 1_000


def require_flow_scheduler(scheduler: Any) -> None:
    """Check that a noise scheduler samples flows.

    Raises:
        GeneratorError: It expects noise or velocity predictions and would silently make garbage.
    """
    config = getattr(scheduler, "config", {})
    name = type(scheduler).__name__
    flow = name.startswith("FlowMatch") or (
        config.get("prediction_type") == "flow_prediction" and config.get("use_flow_sigmas")
    )
    if not flow:
        raise GeneratorError(
            f"`{name}` has prediction_type {config.get('prediction_type')!r}, but this generator "
            "predicts a flow. Use a FlowMatch scheduler, or build it with "
            "`prediction_type='flow_prediction', use_flow_sigmas=True`."
        )


def require_options(num_adapters: object, steps: object, guidance: object) -> None:
    """Check the numbers of a request.

    Raises:
        GeneratorError: One is out of range.
    """
    for name, value, high in (
        ("num_adapters", num_adapters, MAX_ADAPTERS),
        ("num_inference_steps", steps, MAX_STEPS),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
            raise GeneratorError(
                f"`{name}` must be a whole number between 1 and {high}, but is {value!r:.80}."
            )
    if (
        isinstance(guidance, bool)
        or not isinstance(guidance, int | float)
        or not 0 <= guidance <= 100
    ):
        raise GeneratorError(
            f"`guidance_scale` must be between 0 and 100, but is {guidance!r:.80}."
        )


def seed_of(generator: torch.Generator | None) -> int | None:
    """The seed that repeats what `generator` is about to draw; None if no seed does.

    A generator that has drawn before is no longer where its seed puts it.
    """
    if generator is None:
        return None
    seed = generator.initial_seed()
    fresh = type(generator)(device=generator.device).manual_seed(seed)
    return seed if bool((fresh.get_state() == generator.get_state()).all()) else None


def require_trained(spec: BaseModelSpec, trained: Sequence[str]) -> None:
    """Check that a generator was trained for a base, by its id or by an equal config.

    Raises:
        GeneratorError: It was not, so what it writes would be of random quality.
    """
    if spec.id in trained or _has_config_of(spec, trained):
        return
    bases = ", ".join(trained) or "no base that it names"
    raise GeneratorError(
        f"This generator was trained for {bases}, not for `{spec.id}`: its adapters would be of "
        "random quality. Train a generator for it, or ask for them all the same with "
        "`--allow-untrained` (`allow_untrained=True` in Python)."
    )


def _has_config_of(spec: BaseModelSpec, trained: Sequence[str]) -> bool:
    for name in trained:
        try:
            if BaseModelSpec.from_config(name).config_hash == spec.config_hash:
                return True
        except BaseModelError:
            continue  # a base that is not here to compare with; its id has been compared already
    return False
