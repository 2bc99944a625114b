"""Errors of the derived index."""

from __future__ import annotations

from lora_gen.errors import LoraGenError


class IndexDamagedError(LoraGenError, RuntimeError):
    """The derived index cannot be read; the zoo is not concerned, and the index is made again."""

    code = "INDEX"
