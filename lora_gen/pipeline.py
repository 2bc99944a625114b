"""Text, prompts, examples and a base in; adapters with their provenance out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import keep_components
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.condition import Condition
from lora_gen.conditioning.text import DEFAULT_TEXT_ENCODER, TextEncoder
from lora_gen.errors import GeneratorError
from lora_gen.memory import memory_for
from lora_gen.models.recurrent_denoiser import Prototype, RecurrentDenoiser
from lora_gen.pipeline_checks import (
    require_flow_scheduler,
    require_options,
    require_trained,
    seed_of,
)
from lora_gen.pipeline_request import RequestEncoder
from lora_gen.pipeline_start import Start, set_timesteps, start_of

DEFAULT_STEPS = 4
DEFAULT_GUIDANCE = 1.0

StepCallback = Callable[["LoraGenPipeline", int, Any, dict[str, Tensor]], dict[str, Tensor]]
"""As in diffusers: (pipeline, step, timestep, tensors by name) -> tensors to replace."""


@dataclass
class LoraGenOutput(BaseOutput):  # type: ignore[misc]
    """Generated adapters, and how each was made."""

    adapters: list[Adapter]
    provenance: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One CPU thread, so that the same seed gives the same bytes on any number of cores.

    Sums that are split over threads round by their number; the sampler is too small to gain much.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class LoraGenPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Samples adapters with any flow-matching scheduler of diffusers.

    The text encoder is named, not stored: it is frozen, and its weights are checked by hash when it
    is loaded.
    """

    model_cpu_offload_seq = "denoiser"

    def __init__(
        self,
        denoiser: RecurrentDenoiser,
        scheduler: Any,
        text_encoder_name: str = DEFAULT_TEXT_ENCODER,
    ) -> None:
        super().__init__()
        require_flow_scheduler(scheduler)
        self.register_modules(denoiser=denoiser, scheduler=scheduler)
        self.register_to_config(text_encoder_name=text_encoder_name)
        self._request = RequestEncoder(denoiser, text_encoder_name)

    def __setattr__(self, name: str, value: Any) -> None:
        """As usual, but a noise scheduler that cannot sample a flow is refused.

        Raises:
            GeneratorError: The scheduler is not a flow-matching scheduler.
        """
        if name == "scheduler" and value is not None:
            require_flow_scheduler(value)
        super().__setattr__(name, value)

    @classmethod
    def build(
        cls, denoiser: RecurrentDenoiser, *, text_encoder: str = DEFAULT_TEXT_ENCODER
    ) -> LoraGenPipeline:
        """A pipeline around a trained network, with the default noise scheduler."""
        return cls(denoiser, FlowMatchEulerDiscreteScheduler(), text_encoder)

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> LoraGenPipeline:
        """A pipeline from a folder or a hub id.

        Diffusers cannot download components that a package defines, so a hub id is fetched here
        first.

        Raises:
            GeneratorError: There is no generator at that place.
        """
        folder = Path(name)
        if not folder.is_dir():
            folder = _download(
                str(name),
                **{k: kwargs.pop(k) for k in ("revision", "local_files_only") if k in kwargs},
            )
        if not (folder / "model_index.json").is_file():
            raise GeneratorError(
                f"`{folder}` has no model_index.json, so it is not a generator. "
                "Name a folder that `save_pretrained` wrote."
            )
        kwargs.setdefault("low_cpu_mem_usage", False)
        pipe: LoraGenPipeline = super().from_pretrained(folder, **kwargs)
        # Float32, since it may be shipped in float16; and memory of its own: kernels round by the
        # alignment of what they read, and a file's tensors lie anywhere.
        for parameter in pipe.denoiser.parameters():
            parameter.data = parameter.data.float().clone()
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @property
    def encoder(self) -> TextEncoder:
        """The frozen text encoder, loaded at first use.

        Raises:
            ConditionError: Its weights are not those the generator was trained with.
        """
        return self._request.text

    @memory_for("generate")
    @torch.no_grad()
    @_one_thread()
    def __call__(
        self,
        text: str | None = None,
        *,
        prompts: Sequence[str] | None = None,
        examples: Sequence[tuple[str, str]] | None = None,
        base: BaseModelSpec | str | Path | None = None,
        rank: int = 4,
        targets: str | Sequence[str] | None = None,
        num_adapters: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        callback_on_step_end: StepCallback | None = None,
        allow_untrained: bool = False,
        start_from: Adapter | None = None,
        strength: float = 1.0,
        keep: Sequence[str] | None = None,
    ) -> LoraGenOutput:
        """Sample adapters for one request.

        Args:
            text: What the adapter should make the base do.
            prompts: Unlabeled inputs of the task.
            examples: Input-output pairs of the task.
            base: The base: a spec, an embedded id, a folder or a hub id; by default the one the
                generator was trained for.
            rank: LoRA rank. Beyond the ranks of training, the further components of B are zero.
            targets: Which modules, as in PEFT: `all-linear`, `attention`, `mlp`, or names; by
                default those the generator was trained for.
            num_adapters: Candidates; each starts from its own noise.
            num_inference_steps: Steps of the noise scheduler.
            guidance_scale: Weight of the condition against the null condition; 1 is plain sampling.
            generator: Source of the noise; the same seed gives the same bytes.
            callback_on_step_end: Called after each step with `latents` (the tokens) and the
                predicted clean tokens `clean`.
            allow_untrained: Accept a base that the generator was not trained for.
            start_from: An adapter to move toward the request, instead of pure noise.
            strength: Noise level to begin at; the lower, the more the network sees of `start_from`.
            keep: Modules of `start_from` that stay as they are, by path or suffix.

        Returns:
            Adapters and, for each, a JSON-able record of how it was made.

        Raises:
            ConditionError: Nothing was asked, or a part of it cannot be encoded.
            GeneratorError: An option is out of range, or the generator was not trained for the
                base.
            LayoutMismatchError: `rank` is out of range.
        """
        steps = DEFAULT_STEPS if num_inference_steps is None else num_inference_steps
        guidance = DEFAULT_GUIDANCE if guidance_scale is None else guidance_scale
        require_options(num_adapters, steps, guidance)
        spec = self._spec(base)
        if not allow_untrained:
            require_trained(spec, tuple(self.denoiser.config.trained_bases))
        condition = self._request.encode(text, prompts, examples, spec)
        targets = self._targets(targets)
        codec, seed = self.codec_for(spec, rank=rank, targets=targets), seed_of(generator)
        noise = self._noise(num_adapters, codec.layout, generator)
        prototypes = [self._prototype(condition, codec.layout, noise)]
        if guidance != 1.0:
            prototypes.append(self._prototype(condition.null(), codec.layout, noise))
        start = start_of(start_from, codec, strength=strength, keep=keep)
        tokens = self._sample(
            prototypes, noise, steps, guidance, generator, callback_on_step_end, start=start
        )
        anew = start is None or (strength == 1.0 and not keep)  # nothing of `start_from` is left
        components = self.denoiser.components_for(spec.id, rank) if anew else rank
        adapters = [_decoded(t, codec, spec, components) for t in tokens]
        record = {
            "text": text,
            "prompts": list(prompts or []),
            "examples": [list(pair) for pair in examples or []],
            "base": spec.id,
            "rank": rank,
            "targets": targets if isinstance(targets, str) else list(targets),
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "scheduler": type(self.scheduler).__name__,
            "seed": seed,
            "generator": str(self.config.get("_name_or_path") or "unsaved"),
        }
        if start is not None:
            record |= {"strength": strength, "keep": list(keep or [])}
        return LoraGenOutput(
            adapters=adapters, provenance=[{**record, "index": i} for i in range(num_adapters)]
        )

    def codec_for(
        self, spec: BaseModelSpec, *, rank: int, targets: str | Sequence[str] | None = None
    ) -> AdapterCodec:
        """The map from the sampler's tokens to the factors of a base.

        Args:
            spec: The base.
            rank: LoRA rank.
            targets: Which modules; by default those the generator was trained for.

        Raises:
            LayoutMismatchError: `rank` is out of range, or no module is a target.
        """
        width, chosen = self.denoiser.config.token_width, self._targets(targets)
        layout = TokenLayout.build(spec, rank=rank, width=width, targets=chosen)
        return AdapterCodec(layout=layout, scaling=self.denoiser.token_scaling)

    def _targets(self, targets: str | Sequence[str] | None) -> str | Sequence[str]:
        return targets or tuple(self.denoiser.config.targets) or "all-linear"

    def _spec(self, base: BaseModelSpec | str | Path | None) -> BaseModelSpec:
        trained = tuple(self.denoiser.config.trained_bases)
        if base is None:
            if not trained:
                raise GeneratorError(
                    "`base` is missing, and this generator does not name one. Pass `base=`."
                )
            base = trained[0]
        return base if isinstance(base, BaseModelSpec) else BaseModelSpec.from_config(base)

    def _noise(self, count: int, layout: TokenLayout, generator: torch.Generator | None) -> Tensor:
        shape = (count, layout.num_tokens, layout.width + 1)
        source = generator.device if generator is not None else "cpu"
        return torch.randn(shape, generator=generator, device=source).to(self.denoiser.device)

    def _prototype(self, condition: Condition, layout: TokenLayout, noise_BND: Tensor) -> Prototype:
        """One backbone pass: for all candidates together, or for each where it has a latent."""
        count = noise_BND.shape[0]
        latent_BZ = self.denoiser.latent_of(noise_BND)
        if latent_BZ is not None:
            condition = replace(condition.expand(count), latent=latent_BZ)
            each: Prototype = self.denoiser.prototype(condition, layout)
            return each
        found = self.denoiser.prototype(condition, layout)
        return Prototype(
            states=found.states.expand(count, -1, -1),
            memory=found.memory.expand(count, -1, -1),
            mask=found.mask.expand(count, -1),
        )

    def _sample(
        self,
        prototypes: list[Prototype],
        noise_BND: Tensor,
        steps: int,
        guidance: float,
        generator: torch.Generator | None,
        callback: StepCallback | None,
        *,
        start: Start | None,
    ) -> Tensor:
        """Scheduler steps from noise to clean tokens, (B, N, D)."""
        count, device = noise_BND.shape[0], noise_BND.device
        x_BND = noise_BND if start is None else start.noised(noise_BND, start.strength)
        strength = 1.0 if start is None else start.strength
        set_timesteps(self.scheduler, steps, device, strength=strength)
        draws = "generator" in inspect.signature(self.scheduler.step).parameters
        options = {"generator": generator} if draws else {}
        scale = self.scheduler.config.num_train_timesteps
        levels = [*(self.scheduler.timesteps.float() / scale).clamp(0, 1).tolist(), 0.0]
        for i, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            level_B = (timestep.float() / scale).clamp(0, 1).expand(count).to(device)
            flow = self.denoiser(x_BND, level_B, prototypes[0])
            if guidance != 1.0:
                null = self.denoiser(x_BND, level_B, prototypes[1])
                flow = null + guidance * (flow - null)
            clean = x_BND - level_B[:, None, None] * flow
            x_BND = self.scheduler.step(flow, timestep, x_BND, return_dict=False, **options)[0]
            if start is not None:
                x_BND = start.hold(x_BND, noise_BND, levels[i + 1])
            if callback is not None:
                changed = callback(self, i, timestep, {"latents": x_BND, "clean": clean})
                x_BND = changed.get("latents", x_BND)
        return x_BND


def _decoded(tokens_ND: Tensor, codec: AdapterCodec, spec: BaseModelSpec, count: int) -> Adapter:
    """The adapter of clean tokens, of whose components the first ones alone say something."""
    adapter = codec.decode(tokens_ND.cpu(), base=spec.id, task_type=spec.task_type)
    return keep_components(adapter, count) if count < codec.layout.rank else adapter


def _download(name: str, **options: Any) -> Path:
    """Fetch a generator from the hub; only the files that one has."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = [
            "model_index.json",
            "*/config.json",
            "*/scheduler_config.json",
            "*/*.safetensors",
            "README.md",
        ]
        return Path(snapshot_download(name, allow_patterns=patterns, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise GeneratorError(
            f"`{name}` is neither a folder nor a generator that can be fetched from the hub "
            f"({type(error).__name__}). Check the name, or go online."
        ) from error
