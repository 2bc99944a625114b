"""Answers of a base with and without adapters, as the verbs show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter


class Answerer:
    """A base, the inputs, and the base's own answers, computed once."""

    def __init__(self, base: str, inputs: list[str]) -> None:
        from lora_gen.adapter.base_model import resolve_base
        from lora_gen.evaluation.behavior import TaskRunner

        self.inputs = inputs
        self._runner = TaskRunner(resolve_base(base))
        self._base_outputs = self._runner.answer(inputs, None)

    def answers(self, adapter: Adapter) -> list[dict[str, str]]:
        """A record for each input: `input`, `output` with the adapter, `base_output` without."""
        outputs = self._runner.answer(self.inputs, adapter)
        return [
            {"input": given, "output": output, "base_output": base_output}
            for given, output, base_output in zip(
                self.inputs, outputs, self._base_outputs, strict=True
            )
        ]
