"""Adapters of any size: sampled a window of tokens at a time, each written as soon as it is made.

Tokens meet only through the backbone's states, and those are causal. So a window needs nothing but
the state that the windows before it left, and its sampler steps can run beside the next one's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.peft_stream import stream_peft
from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.pieces import factor_pieces
from lora_gen.conditioning.condition import Condition
from lora_gen.models.folded import FoldedSampler, SamplingLine
from lora_gen.models.recurrent_denoiser import MIN_LEVEL, Prototype
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.pipeline_checks import require_options, require_trained
from lora_gen.pipeline_start import set_timesteps

WINDOW_VALUES = 2**20
"""Weights in a window: enough for the matrix products, small beside any generator."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a large adapter is sampled."""

    num_inference_steps: int = 4
    guidance_scale: float = 1.0
    seed: int = 0
    window: int | None = None
    """Tokens in a window, a multiple of 16; by default as many as hold `WINDOW_VALUES` weights."""
    workers: int = 1
    """Windows whose sampler steps run at the same time, one CPU thread each."""
    mixed_precision: bool = True
    """Run the networks in bfloat16; tokens and recurrent state stay float32."""

    def window_of(self, layout: TokenLayout) -> int:
        """Tokens in a window; a multiple of 16, since normal numbers are drawn in sixteens."""
        wanted = self.window or WINDOW_VALUES // layout.width
        return max(16, wanted // 16 * 16)


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """What one large adapter is asked for, as in `LoraGenPipeline.__call__`."""

    text: str | None = None
    prompts: Sequence[str] | None = None
    examples: Sequence[tuple[str, str]] | None = None
    base: BaseModelSpec | str | Path | None = None
    rank: int = 16
    targets: str | Sequence[str] = "all-linear"
    allow_untrained: bool = False


@torch.no_grad()
def stream_tokens(
    pipe: LoraGenPipeline, condition: Condition, layout: TokenLayout, options: StreamOptions
) -> Iterator[tuple[int, Tensor]]:
    """Clean tokens of one adapter, window by window: (place of the first, tokens (n, D + 1)).

    The noise is that of `LoraGenPipeline.__call__` with the same seed, and so is the result, up to
    the rounding of the backbone's scan and of bfloat16.

    Args:
        pipe: The generator.
        condition: What was asked, of one row.
        layout: The adapter's layout.
        options: Steps, guidance, seed and size of the windows.
    """
    size = options.window_of(layout)
    noise = _Noise(pipe, layout, options.seed, size)
    sampler: Callable[[list[Prototype], Tensor], Tensor] | None = None
    latent = noise.latent()
    if latent is not None:
        condition = replace(condition, latent=latent)
    conditions = [condition, condition.null()][: 1 if options.guidance_scale == 1.0 else 2]
    prototypes = [pipe.denoiser.prototypes(c, layout, size) for c in conditions]
    waiting: deque[tuple[int, Future[Tensor]]] = deque()
    threads = torch.get_num_threads()
    # One thread a worker: sums that are split over threads round by their number.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            options.workers, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            for start, noise_1nD in noise.windows():
                with _precision(pipe, options):
                    given = [next(each) for each in prototypes]
                sampler = sampler or _sampler(pipe, given, options)
                waiting.append((start, pool.submit(sampler, given, noise_1nD)))
                if len(waiting) > options.workers:
                    first, done = waiting.popleft()
                    yield first, done.result()
            while waiting:
                first, done = waiting.popleft()
                yield first, done.result()
    finally:
        torch.set_num_threads(threads)


def stream_adapter(
    pipe: LoraGenPipeline,
    condition: Condition,
    layout: TokenLayout,
    take: Callable[..., None],
    *,
    options: StreamOptions,
    components: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Sample one adapter and hand each piece of its factors to `take`, as `FactorFile.add`.

    Args:
        pipe: The generator.
        condition: What was asked, of one row.
        layout: The adapter's layout.
        take: Called with (module, side, component, start=, values=).
        options: Steps, guidance, seed and size of the windows.
        components: How many components of B are not zero; by default all.
        progress: Called with (tokens done, tokens of the adapter).
    """
    scaling = pipe.denoiser.token_scaling
    silent = layout.rank if components is None else components
    for first, tokens_nD in stream_tokens(pipe, condition, layout, options):
        for piece in factor_pieces(layout, scaling, tokens_nD.cpu(), first):
            values = piece.values
            if piece.side == "B" and piece.component >= silent:
                values = torch.zeros_like(values)
            take(piece.module, piece.side, piece.component, start=piece.start, values=values)
        if progress is not None:
            progress(first + len(tokens_nD), layout.num_tokens)


def stream_folder(
    pipe: LoraGenPipeline,
    folder: Path,
    request: StreamRequest,
    *,
    options: StreamOptions,
    texts: Callable[[BaseModelSpec, dict[str, Any]], dict[str, str]] | None = None,
    exact: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Sample one adapter into a PEFT folder, in memory that does not grow with the adapter.

    Args:
        pipe: The generator.
        folder: Output folder.
        request: What is asked for.
        options: Steps, guidance, seed and size of the windows.
        texts: Further files of the folder, from the base and the record; name -> content.
        exact: Keep the rank, instead of the portable profile.
        overwrite: Replace an adapter folder that exists.
        progress: Called with (tokens done, tokens of the adapter).

    Returns:
        How it was made, as `LoraGenPipeline.__call__` records it.

    Raises:
        LoraGenError: As `LoraGenPipeline.__call__` and `save_adapter`.
    """
    require_options(1, options.num_inference_steps, options.guidance_scale)
    spec = pipe._spec(request.base)
    if not request.allow_untrained:
        require_trained(spec, tuple(pipe.denoiser.config.trained_bases))
    layout = TokenLayout.build(
        spec, rank=request.rank, width=pipe.denoiser.config.token_width, targets=request.targets
    )
    with torch.no_grad():
        condition = pipe._request.encode(request.text, request.prompts, request.examples, spec)
    record = _record(pipe, request, spec, options)
    names = [module.name for module in layout.modules]
    with stream_peft(
        folder,
        spec,
        names,
        rank=request.rank,
        exact=exact,
        texts=texts(spec, record) if texts is not None else None,
        overwrite=overwrite,
    ) as file:
        stream_adapter(
            pipe,
            condition,
            layout,
            file.add,
            options=options,
            components=pipe.denoiser.components_for(spec.id, request.rank),
            progress=progress,
        )
    return record


def _record(
    pipe: LoraGenPipeline, request: StreamRequest, spec: BaseModelSpec, options: StreamOptions
) -> dict[str, Any]:
    return {
        "text": request.text,
        "prompts": list(request.prompts or []),
        "examples": [list(pair) for pair in request.examples or []],
        "base": spec.id,
        "rank": request.rank,
        "targets": request.targets if isinstance(request.targets, str) else list(request.targets),
        "num_inference_steps": options.num_inference_steps,
        "guidance_scale": options.guidance_scale,
        "scheduler": type(pipe.scheduler).__name__,
        "seed": options.seed,
        "generator": str(pipe.config.get("_name_or_path") or "unsaved"),
        "mixed_precision": options.mixed_precision,
        "window": options.window,
        "index": 0,
    }


class _Noise:
    """The noise of one adapter, drawn window by window, as often as it is asked for."""

    def __init__(self, pipe: LoraGenPipeline, layout: TokenLayout, seed: int, size: int) -> None:
        self._pipe, self._layout, self._seed, self._size = pipe, layout, seed, size

    def windows(self) -> Iterator[tuple[int, Tensor]]:
        """Place of the first token, and noise (1, n, D + 1)."""
        source = torch.Generator().manual_seed(self._seed)
        total, width = self._layout.num_tokens, self._layout.width + 1
        for start in range(0, total, self._size):
            count = min(self._size, total - start)
            noise = torch.randn((1, count, width), generator=source)
            yield start, noise.to(self._pipe.denoiser.device)

    def latent(self) -> Tensor | None:
        """As `RecurrentDenoiser.latent_of` the whole noise."""
        width = self._pipe.denoiser.config.latent_dim
        if not width:
            return None
        parts = [noise_1nD[..., :width].sum(1) for _, noise_1nD in self.windows()]
        latent_1Z: Tensor = torch.stack(parts).sum(0) / self._layout.num_tokens**0.5
        return latent_1Z


def sampling_line(scheduler: Any, steps: int) -> SamplingLine | None:
    """The steps of a noise scheduler as numbers, found by letting it step on numbers.

    None where a step is more than that: it draws noise, or remembers the steps before.
    """
    if type(scheduler).__name__ != "FlowMatchEulerDiscreteScheduler":
        return None
    if scheduler.config.stochastic_sampling:
        return None
    own = deepcopy(scheduler)
    set_timesteps(own, steps, torch.device("cpu"), strength=1.0)
    scale = own.config.num_train_timesteps
    x_2, clean_2 = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    levels, found = [], []
    for timestep in own.timesteps:
        level = float((timestep.float() / scale).clamp(0, 1))
        flow_2 = (x_2 - clean_2) / max(level, MIN_LEVEL)
        a, b = own.step(flow_2, timestep, x_2, return_dict=False)[0].tolist()
        levels.append(level)
        found.append((a, b))
    return SamplingLine(levels=tuple(levels), steps=tuple(found))


def _sampler(
    pipe: LoraGenPipeline, prototypes: list[Prototype], options: StreamOptions
) -> Callable[[list[Prototype], Tensor], Tensor]:
    """From a window's prototypes and noise to its tokens; folded where the scheduler allows it."""
    line = sampling_line(pipe.scheduler, options.num_inference_steps)
    if line is None:
        return partial(_step_by_step, pipe, options)
    folded = FoldedSampler(
        pipe.denoiser,
        prototypes,
        line,
        guidance=options.guidance_scale,
        dtype=torch.bfloat16 if options.mixed_precision else torch.float32,
    )
    return lambda given, noise_1nD: folded(noise_1nD[0], [each.states[0] for each in given])


@torch.no_grad()
def _step_by_step(
    pipe: LoraGenPipeline, options: StreamOptions, prototypes: list[Prototype], noise_1nD: Tensor
) -> Tensor:
    """The sampler's steps on one window, with a noise scheduler of its own."""
    own = LoraGenPipeline(pipe.denoiser, deepcopy(pipe.scheduler), pipe.config.text_encoder_name)
    own.set_progress_bar_config(disable=True)
    steps, guidance = options.num_inference_steps, options.guidance_scale
    with _precision(pipe, options):
        tokens_1nD = own._sample(prototypes, noise_1nD, steps, guidance, None, None, start=None)
    return tokens_1nD[0].float()


def _precision(pipe: LoraGenPipeline, options: StreamOptions) -> Any:
    device = pipe.denoiser.device.type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=options.mixed_precision)
