"""Train a published generator of weights on the generator's own data, to compare with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.scaling import TokenScaling
from lora_gen.conditioning.condition import Condition
from lora_gen.conditioning.text import TextEncoder
from lora_gen.models.baselines.cvae import kl_divergence
from lora_gen.models.baselines.model import BaselineModel
from training.baseline_config import BY_BEHAVIOR, BaselineTaskConfig
from training.baseline_data import BaselineData, told_records
from training.baseline_losses import autoencoder_losses, delta_loss, masked_mean, velocity_loss
from training.behavior_data import BehaviorRecord
from training.generator_data import GeneratorData, Readers
from training.generator_task import Factors, GeneratorTask
from training.task import TaskContext

Parts = dict[str, Tensor]


class BaselineTask(GeneratorTask):
    """See `training.task.Task`."""

    config: BaselineTaskConfig

    def build_network(
        self, layout: TokenLayout, scaling: TokenScaling, encoder: TextEncoder
    ) -> BaselineModel:
        """The network of the method, and the codec of its rank."""
        config = self.config
        self.codec = AdapterCodec(layout=layout.with_rank(config.rank), scaling=scaling)
        mask_ND = nn.functional.pad(self.codec.layout.value_mask, (0, 1), value=1.0)
        self.mask_ND = mask_ND.to(self.context.device)
        network: BaselineModel = BaselineModel(
            method=config.method,
            layout=self.codec.layout.to_dict(),
            scaling=asdict(scaling),
            text_dim=encoder.width,
            hidden_dim=config.hidden_dim,
            text_fingerprint=encoder.fingerprint,
        )
        return network

    def build_data(self) -> GeneratorData:
        """Batches with what the method learns from."""
        method, known = self.config.method, self.zoo_tokens
        is_labeled = method in BY_BEHAVIOR and self.config.objective.behavior == "labels"
        if method == "multi_task":
            self.records = told_records(self.records, self.context.seed)
            self.validation = told_records(self.validation, self.context.seed)
        if method not in BY_BEHAVIOR and known is not None:
            self.records = [record for record in self.records if record.task in known.rows]
        return BaselineData(
            self.records,
            self.config.objective,
            readers=Readers(texts=self.texts, chat=self.chat, spec=self.spec),
            context=self.context,
            zoo_tokens=None if is_labeled else known,
            method=method,
        )

    def objective(
        self, denoiser: Any, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Parts]:
        """The method's losses; their sum is what is minimized."""
        network, condition = denoiser.network, batch["condition"]
        if self.config.method in BY_BEHAVIOR:
            factors = self.codec.factors(network(condition))
            parts = {"behavior": self._behavior(factors, batch, condition.batch_size)}
        else:
            target_BND = batch["tokens"][:, : self.codec.layout.num_tokens]
            parts = self._weights(network, target_BND, batch, generator)
        total = torch.stack([part.float() for part in parts.values()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}

    def _weights(
        self, network: Any, target_BND: Tensor, batch: dict[str, Any], generator: torch.Generator
    ) -> Parts:
        config, condition = self.config, batch["condition"]
        if config.method == "cvae":
            shape = (len(target_BND), network.latent_dim)
            noise_BZ = torch.randn(shape, generator=generator, device=target_BND.device)
            found_BND, mean_BZ, log_variance_BZ = network(target_BND, condition, noise_BZ)
            return {
                "error": masked_mean((found_BND - target_BND).square(), self.mask_ND),
                "kl": config.kl_weight * kl_divergence(mean_BZ, log_variance_BZ),
            }
        if config.method == "latent_diffusion":
            if batch["index"] < config.autoencoder_steps:
                return autoencoder_losses(network.autoencoder, target_BND, generator)
            return {"velocity": velocity_loss(network, target_BND, condition, generator)}
        if config.method == "prompt_decoder":
            found_BND = network(batch["prompts"])
            return {"error": masked_mean((found_BND - target_BND).square(), self.mask_ND)}
        found_BND = network(condition)
        if config.target == "delta":
            return {"error": delta_loss(*map(self.codec.factors, (found_BND, target_BND)))}
        return {"error": masked_mean((found_BND - target_BND).abs(), self.mask_ND)}

    def generate(self, denoiser: Any, records: Sequence[BehaviorRecord]) -> Factors:
        """Factors of one adapter for each record, from its first description alone."""
        states, mask = self.texts.batch([record.descriptions[0] for record in records])
        condition = Condition(text_states=states, text_mask=mask).to(self.context.device)
        return self.codec.factors(denoiser.write(condition, torch.Generator().manual_seed(0)))

    def save(self, folder: Path, model: nn.Module) -> None:
        """The network with its layout, ready for `lora-gen evaluate --baselines FOLDER`."""
        model.denoiser.save_pretrained(folder)  # type: ignore[operator,union-attr]


def build_baseline_task(config: BaselineTaskConfig, context: TaskContext) -> BaselineTask:
    """The baseline task of a recipe."""
    return BaselineTask(config, context)
