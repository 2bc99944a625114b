"""Whether `torch.compile` pays: the same windows through the sampler as it is, and compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.codec.layout import TokenLayout
from lora_gen.models.folded import FoldedSampler
from lora_gen.pipeline_stream import StreamOptions, sampling_line
from recipes.benchmarks.ours import BASES, PROMPTS, large_generator


def compiled(steps: int, repeats: int, device: str = "cpu") -> Callable[[], dict[str, Any]]:
    """Seconds of one window, as it is and compiled, in turns; and those of compiling."""
    pipe = large_generator(device)
    spec = BaseModelSpec.from_config(BASES / "qwen2.5-0.5b")
    layout = TokenLayout.build(spec, rank=1, width=1024)
    size = StreamOptions().window_of(layout)
    line = sampling_line(pipe.scheduler, steps)
    assert line is not None  # the pipeline's own scheduler has one

    @torch.no_grad()
    def work() -> dict[str, Any]:
        torch.set_num_threads(1)
        condition = pipe._request.encode(None, PROMPTS, None, spec)
        whole = [next(iter(pipe.denoiser.prototypes(condition, layout, size)))]
        plain = FoldedSampler(pipe.denoiser, whole, line)
        fast = FoldedSampler(pipe.denoiser, whole, line)
        fast._last = torch.compile(fast._last)  # type: ignore[method-assign]
        states = [each.states[0] for each in whole]
        noise_nD = torch.randn(states[0].shape[0], layout.width + 1, device=device)
        began = time.perf_counter()
        found_nD = fast(noise_nD, states)
        compiling = time.perf_counter() - began
        difference = float((found_nD - plain(noise_nD, states)).abs().max())
        times = [
            (_timed(plain, noise_nD, states), _timed(fast, noise_nD, states))
            for _ in range(repeats)
        ]
        as_is, with_it = (sorted(each)[len(each) // 2] for each in zip(*times, strict=True))
        return {
            "as_is": round(as_is, 4),
            "compiled": round(with_it, 4),
            "ratio": round(as_is / with_it, 3),
            "compile_seconds": round(compiling, 1),
            "largest_difference": round(difference, 5),
        }

    return work


def _timed(sampler: FoldedSampler, noise_nD: torch.Tensor, states: list[torch.Tensor]) -> float:
    """CPU seconds of one window, or seconds on a GPU."""
    on_gpu = noise_nD.is_cuda
    clock = time.perf_counter if on_gpu else time.process_time
    began = clock()
    sampler(noise_nD, states)
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - began
