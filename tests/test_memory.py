from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from adapter_factories import tiny_spec
from generator_factories import StubTextEncoder, tiny_denoiser

from lora_gen.errors import MemoryLimitError
from lora_gen.memory import memory_for
from lora_gen.pipeline import LoraGenPipeline
from tests.corpus.guard import address_space

SPEC = tiny_spec()


@contextmanager
def spare(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize(
    "take",
    [
        lambda: bytearray(4_000_000_000),
        lambda: torch.empty(4_000_000_000),
        lambda: torch.ones(1000, 1_000_000).mean(),
    ],
)
def test_memory_for_says_whose_memory_ended(take: Any) -> None:
    with (
        spare(100_000_000),
        pytest.raises(MemoryLimitError, match="`work` needs more"),
        memory_for("work"),
    ):
        take()


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("shapes differ"), OSError(2, "x")])
def test_memory_for_leaves_other_errors_alone(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_for("work"):
        raise error
    assert caught.value is error


def test_memory_for_names_the_inner_work_only() -> None:
    with pytest.raises(MemoryLimitError, match="`inner`"), memory_for("outer"), memory_for("inner"):
        raise MemoryError


def test_generate_refuses_when_memory_ends_and_works_again() -> None:
    pipe = LoraGenPipeline.build(tiny_denoiser(trained_bases=(SPEC.id,)))
    pipe._request._text = StubTextEncoder()  # type: ignore[assignment]
    pipe.set_progress_bar_config(disable=True)
    assert len(pipe("one word", base=SPEC).adapters) == 1
    with spare(30_000_000), pytest.raises(MemoryLimitError, match="`generate` needs more"):
        pipe("one word", base=SPEC, num_adapters=64, rank=512)
    assert len(pipe("one word", base=SPEC).adapters) == 1
