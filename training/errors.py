"""Errors of the loop itself."""

from __future__ import annotations

from lora_gen.errors import LoraGenError


class TrainingError(LoraGenError, RuntimeError):
    """Training cannot go on; the last good checkpoint is kept."""

    code = "TRAIN"
