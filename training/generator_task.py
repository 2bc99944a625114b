"""Train the generator: behavior on the sampler's own path, flow matching on the zoo's tokens."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.adapter.algebra import resize
from lora_gen.adapter.base_model import BaseModelSpec, resolve_base
from lora_gen.adapter.stacked import StackedFactors
from lora_gen.codec.canonical import canonicalize
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.scaling import TokenScaling
from lora_gen.conditioning.chat import Lines, load_causal_lm
from lora_gen.conditioning.condition import (
    Condition,
    base_condition,
)
from lora_gen.conditioning.examples import ExampleReader, example_width
from lora_gen.conditioning.text import TextEncoder
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.models.recurrent_denoiser import RecurrentDenoiser
from lora_gen.zoo.store import Zoo
from training.adapter_variants import Variants
from training.ambiguity import Ambiguity, read_ambiguous
from training.behavior_data import (
    BehaviorRecord,
    TextStateCache,
    ZooTokens,
    read_behaviors,
    require_usable,
)
from training.continual import Memory
from training.generator_config import GeneratorTaskConfig
from training.generator_data import GeneratorData, Readers
from training.generator_start import start_scaling, start_weights
from training.objectives import (
    distillation_loss,
    flow_matching_loss,
    grouped_label_losses,
    label_loss,
    matching_loss,
    predict_on_path,
    sample_on_path,
)
from training.task import TaskContext

Factors = dict[str, tuple[Tensor, Tensor]]


class _Trainee(nn.Module):
    """The network with its loss as `forward`, so that data-parallel wrappers see one call."""

    def __init__(self, denoiser: RecurrentDenoiser, task: GeneratorTask) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._task = (task,)  # a tuple keeps the frozen base out of this module's parameters

    def forward(
        self, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self._task[0].objective(self.denoiser, batch, generator)


class GeneratorTask:
    """See `training.task.Task`."""

    def __init__(self, config: GeneratorTaskConfig, context: TaskContext) -> None:
        self.config, self.context = config, context
        self.spec = BaseModelSpec.from_config(config.base)
        self.open_base()
        encoder = TextEncoder.from_pretrained(config.text_encoder).to(context.device)
        self.texts = TextStateCache.shared(encoder)
        path = Path(config.behaviors)
        self.records = [r for split in config.splits for r in read_behaviors(path, split=split)]
        self.validation = read_behaviors(path, split=config.validation_split)
        layout = TokenLayout.build(
            self.spec,
            rank=max(config.objective.ranks),
            width=self.token_width,
            targets=config.targets or "all-linear",
        )
        self.zoo_tokens, scaling = self._zoo(layout)
        distill = config.objective.behavior == "distill"
        known = self.zoo_tokens.rows if distill and self.zoo_tokens else None
        require_usable(self.records, lines=config.objective.lines_per_task, known=known)
        self.codecs = {
            rank: AdapterCodec(layout=layout.with_rank(rank), scaling=scaling)
            for rank in config.objective.ranks
        }
        self.denoiser = self.build_network(layout, scaling, encoder)
        if config.start_from is not None:
            start_weights(self.denoiser, Path(config.start_from))
        self.memory = self._memory()
        self.model: nn.Module = _Trainee(self.denoiser, self)
        self.data = self.build_data()

    @property
    def token_width(self) -> int:
        """Values in a token."""
        return self.spec.hidden_size

    def open_base(self) -> None:
        """Load the frozen base."""
        base, self.chat = load_causal_lm(resolve_base(self.config.base))
        self.base = base.to(self.context.device)  # type: ignore[arg-type]
        if self.context.device.type == "cpu":
            # Lines are short: PyTorch's fused attention costs more here, backward above all.
            self.base.set_attn_implementation("eager")

    def build_network(
        self, layout: TokenLayout, scaling: TokenScaling, encoder: TextEncoder
    ) -> RecurrentDenoiser:
        """The network that is trained, at its start."""
        config = self.config
        network: RecurrentDenoiser = RecurrentDenoiser(
            token_width=layout.width,
            text_dim=encoder.width,
            scaling=asdict(scaling),
            text_fingerprint=encoder.fingerprint,
            trained_bases=(config.base,),
            targets=config.targets,
            max_rank=max(config.objective.ranks),
            example_dim=example_width(self.spec.hidden_size) if config.read_examples else 0,
            **asdict(config.model),
        )
        return network

    def build_data(self) -> GeneratorData:
        """What batches are made of."""
        reads = self.config.read_examples
        return GeneratorData(
            self.records,
            self.config.objective,
            readers=Readers(
                texts=self.texts,
                chat=self.chat,
                spec=self.spec,
                examples=ExampleReader(self.base, self.chat) if reads else None,
            ),
            context=self.context,
            zoo_tokens=self.zoo_tokens,
            ambiguity=self._ambiguity(),
        )

    def _ambiguity(self) -> Ambiguity | None:
        if self.config.ambiguous is None:
            return None
        tasks = {record.task: record for record in self.records}
        records = read_ambiguous(Path(self.config.ambiguous), split="train")
        return Ambiguity(records, tasks, places=self.config.objective.readings.candidates)

    _scaled_by: tuple[str, ...] = ()
    """Ids of the zoo's entries that the scaling of tokens was fitted to."""

    def _zoo(self, layout: TokenLayout) -> tuple[ZooTokens | None, TokenScaling]:
        start = self.config.start_from
        known = TokenScaling() if start is None else start_scaling(Path(start))
        if self.config.zoo is None:
            return None, known
        with Zoo.open(self.config.zoo, read_only=True) as zoo:
            plain = AdapterCodec(layout=layout, scaling=TokenScaling())
            if start is None:
                some = sorted(zoo.ids(split=self.config.splits[0]))[:64]
                self._scaled_by = tuple(some)
                known = TokenScaling.fit(
                    (
                        plain.chunks(canonicalize(resize(adapter, layout.rank))),
                        layout.value_mask,
                        layout.slot_roles,
                    )
                    for adapter in map(zoo.load, some)
                )
            codec = AdapterCodec(layout=layout, scaling=known)
            names = list(dict.fromkeys(record.task for record in self.records))
            cache = Path(self.config.cache) if self.config.cache else None
            variants = self._variants()
            return ZooTokens(zoo, codec, names, cache, variants=variants), known

    def _variants(self) -> Variants | None:
        config = self.config.objective.augment
        return None if config is None else Variants(config, self.context.seed)

    def _memory(self) -> Memory | None:
        config, seed = self.config.remember, self.context.seed
        if config is None:
            return None
        return Memory(self.denoiser, self.texts, self.spec, config=config, seed=seed)

    def batch(self, index: int) -> dict[str, Any]:
        """See `GeneratorData.batch`; `old` are descriptions to remember, if there are any."""
        batch = self.data.batch(index)
        return batch if self.memory is None else batch | {"old": self.memory.batch(index)}

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Weighted sum of both objectives."""
        found: tuple[Tensor, Mapping[str, float | Tensor]] = model(batch, generator)
        return found

    def objective(
        self, denoiser: RecurrentDenoiser, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Both losses on one prototype, a scalar and its parts."""
        goal, codec = self.config.objective, self.codecs[batch["rank"]]
        layout, adapters = codec.layout, batch["condition"].batch_size
        shape = (adapters, layout.num_tokens, layout.width + 1)
        device = next(denoiser.parameters()).device
        noise = torch.randn(shape, generator=generator, device=device)
        condition = replace(batch["condition"], latent=denoiser.latent_of(noise))
        prototype = denoiser.prototype(condition, layout)
        total, parts = prototype.states.new_zeros(()), {}
        if goal.behavior_weight:
            tokens = predict_on_path(denoiser, prototype, noise, batch["levels"])
            factors, clear = codec.factors(tokens), self.context.batch_size
            own = {name: (a[:clear], b[:clear]) for name, (a, b) in factors.items()}
            parts["behavior"] = self._behavior(own, batch, clear)
            total = total + goal.behavior_weight * parts["behavior"]
            if adapters > clear:
                rest = {name: (a[clear:], b[clear:]) for name, (a, b) in factors.items()}
                parts["readings"] = self._readings(rest, batch)
                total = total + goal.readings.weight * parts["readings"]
        if goal.flow_weight and self.zoo_tokens is not None and len(batch["rows"]):
            rows, known = batch["rows"], batch["tokens"][:, : layout.num_tokens]
            some = type(prototype)(
                states=prototype.states[rows],
                memory=prototype.memory[rows],
                mask=prototype.mask[rows],
            )
            mask = nn.functional.pad(layout.value_mask, (0, 1), value=1.0).to(known.device)
            parts["flow"] = flow_matching_loss(denoiser, some, known, mask, generator)
            total = total + goal.flow_weight * parts["flow"]
        if self.memory is not None:
            parts["forgotten"] = self.memory.loss(
                denoiser, batch["old"], codec, batch["levels"], generator
            )
            total = total + self.memory.config.weight * parts["forgotten"]
        return total, {name: value.detach() for name, value in parts.items()}

    def _behavior(
        self, factors: dict[str, tuple[Tensor, Tensor]], batch: dict[str, Any], adapters: int
    ) -> Tensor:
        lines = Lines(input_ids=batch["input_ids"], labels=batch["labels"])
        if self.config.objective.behavior == "labels":
            return label_loss(self.base, factors, lines, adapters)
        teacher_codec = self.codecs[max(self.codecs)]
        teacher = teacher_codec.factors(batch["tokens"])
        return distillation_loss(self.base, factors, teacher, lines, adapters)

    def _readings(self, factors: StackedFactors, batch: dict[str, Any]) -> Tensor:
        lines = Lines(input_ids=batch["open_input_ids"], labels=batch["open_labels"])
        goal = self.config.objective.readings
        shape = (goal.rows, goal.candidates, goal.candidates)
        groups = goal.rows * goal.candidates**2
        return matching_loss(grouped_label_losses(self.base, factors, lines, groups).view(shape))

    @torch.no_grad()
    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Exact match of text-only adapters on seen tasks and on the validation split."""
        denoiser: RecurrentDenoiser = model.denoiser  # type: ignore[assignment]
        return {
            "exact_match_seen": self._exact_match(denoiser, self.records),
            "exact_match_validation": self._exact_match(denoiser, self.validation),
        }

    def _exact_match(self, denoiser: RecurrentDenoiser, records: list[BehaviorRecord]) -> float:
        chosen = random.Random(0).sample(records, min(48, len(records)))
        hits = []
        for start in range(0, len(chosen), 16):
            part = chosen[start : start + 16]
            # 16 of each, repeated where there are fewer: the stack must be rectangular
            lines = self.data.pack(
                [r.examples[-1 - i % len(r.examples)] for r in part for i in range(16)]
            )
            placed = Lines(
                input_ids=lines.input_ids.to(self.context.device),
                labels=lines.labels.to(self.context.device),
            )
            hits.append(exact_matches(self.base, placed, self.generate(denoiser, part)).float())
        return float(torch.cat(hits).mean())

    def generate(self, denoiser: RecurrentDenoiser, records: Sequence[BehaviorRecord]) -> Factors:
        """Factors of one adapter for each record, from its first description alone."""
        codec, device = self.codecs[max(self.codecs)], self.context.device
        states, mask = self.texts.batch([record.descriptions[0] for record in records])
        condition = Condition(
            text_states=states,
            text_mask=mask,
            base_features=base_condition(self.spec, len(records)),
        ).to(device)
        shape = (len(records), codec.layout.num_tokens, codec.layout.width + 1)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
        condition = replace(condition, latent=denoiser.latent_of(noise))
        prototype = denoiser.prototype(condition, codec.layout)
        steps = self.config.objective.sampler_steps
        tokens = sample_on_path(denoiser, prototype, noise, steps=steps, stop=steps - 1)
        return codec.factors(tokens)

    def save(self, folder: Path, model: nn.Module) -> None:
        """The whole pipeline, ready for `LoraGenPipeline.from_pretrained`."""
        from lora_gen.pipeline import LoraGenPipeline

        denoiser: RecurrentDenoiser = model.denoiser  # type: ignore[assignment]
        if self.memory is not None and self.memory.config.share < 1:
            denoiser = self.memory.averaged(denoiser)
        LoraGenPipeline.build(denoiser, text_encoder=self.config.text_encoder).save_pretrained(
            folder
        )

    def parents(self) -> Sequence[str]:
        """The zoo's entries whose weights this learned from; see `training.task.DerivedTask`."""
        known = self.zoo_tokens.ids if self.zoo_tokens else ()
        return [f"zoo:{entry_id}" for entry_id in sorted({*known, *self._scaled_by})]

    def fingerprint(self) -> str:
        """Hash of tasks, zoo tokens and base."""
        tasks = json.dumps([asdict(record) for record in self.records], sort_keys=True)
        if self.data.ambiguity is not None:
            tasks += json.dumps([asdict(record) for record in self.data.ambiguity.records])
        zoo = self.zoo_tokens.fingerprint if self.zoo_tokens else ""
        return blake2b(f"{tasks}{zoo}{self.spec.config_hash}".encode(), digest_size=16).hexdigest()


def build_generator_task(config: GeneratorTaskConfig, context: TaskContext) -> GeneratorTask:
    """The generator task of a recipe."""
    return GeneratorTask(config, context)
