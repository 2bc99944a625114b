"""A request becomes a condition: its text by the text encoder, its examples by the base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.conditioning.condition import (
    Condition,
    base_condition,
    encode_examples,
    encode_prompts,
)
from lora_gen.conditioning.examples import ExampleReader, example_width
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConditionError

if TYPE_CHECKING:
    from torch import Tensor

    from lora_gen.models.recurrent_denoiser import RecurrentDenoiser


class RequestEncoder:
    """What a generator reads requests with; each reader is loaded at first use.

    Args:
        denoiser: The network, which says what it was trained to read.
        text_encoder_name: Hub id, folder or registered name.
    """

    def __init__(self, denoiser: RecurrentDenoiser, text_encoder_name: str) -> None:
        self._denoiser, self._name = denoiser, text_encoder_name
        self._text: TextEncoder | None = None
        self._examples: tuple[str, ExampleReader] | None = None

    @property
    def text(self) -> TextEncoder:
        """The frozen text encoder.

        Raises:
            ConditionError: Its weights are not those the generator was trained with.
        """
        if self._text is None:
            encoder = TextEncoder.from_pretrained(self._name)
            trained_with = self._denoiser.config.text_fingerprint
            if trained_with not in (None, encoder.fingerprint):
                raise ConditionError(
                    f"The text encoder `{encoder.name}` has weights {encoder.fingerprint[:12]}…, "
                    f"but this generator was trained with {trained_with[:12]}…. "
                    "Install the text encoder it was trained with."
                )
            self._text = encoder.to(self._denoiser.device)
        return self._text

    def encode(
        self,
        text: str | None,
        prompts: Sequence[str] | None,
        examples: Sequence[tuple[str, str]] | None,
        spec: BaseModelSpec,
    ) -> Condition:
        """The condition of one request, on the network's device.

        Raises:
            ConditionError: Nothing was asked, or a part of it cannot be encoded.
        """
        if text is None and not prompts and not examples:
            raise ConditionError("Nothing was asked: pass `text`, `prompts` or `examples`.")
        states = self.text.encode([text]) if text is not None else None
        example_bytes = encode_examples([examples]) if examples else None
        example_states, example_mask = self._read(examples, spec) if examples else (None, None)
        condition = Condition(
            text_states=states.states if states else None,
            text_mask=states.mask if states else None,
            prompt_bytes=encode_prompts([prompts]) if prompts else None,
            example_bytes=example_bytes,
            base_features=base_condition(spec, 1),
            example_states=example_states,
            example_mask=example_mask,
        )
        return condition.to(self._denoiser.device)

    def _read(
        self, examples: Sequence[tuple[str, str]], spec: BaseModelSpec
    ) -> tuple[Tensor | None, Tensor | None]:
        """What the base makes of the examples, if the generator learned to read that."""
        width = self._denoiser.config.example_dim
        if not width:
            return None, None
        if example_width(spec.hidden_size) != width:
            raise ConditionError(
                f"`examples` are read by the base, but `{spec.id}` has width {spec.hidden_size}, "
                "and this generator learned to read a base of another width. Leave them out."
            )
        if self._examples is None or self._examples[0] != spec.id:
            self._examples = (spec.id, ExampleReader(*load_causal_lm(spec.id)))
        return self._examples[1].encode([examples])
