"""The encoder of weights: contrastive with frozen text, quality beside it.

Shapes: B adapters, T texts, E embedding width, M members of the quality ensemble.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.codec.roles import ROLES
from lora_gen.errors import ConfigError
from lora_gen.models.adapter_encoder import AdapterEncoder, ModuleSet
from lora_gen.retrieval.corpus import corpus_of
from lora_gen.retrieval.encoder import slots_of
from lora_gen.retrieval.fit import (
    TextProjection,
    fit_projection,
    fit_reach,
    fit_readout,
    fit_support,
    stacked_modules,
)
from lora_gen.zoo.splits import require_split
from lora_gen.zoo.store import Zoo
from training.encoder_config import EncoderTaskConfig
from training.order import batch_positions, derive_seed
from training.task import TaskContext

_AT_ONCE = 128


def contrastive_loss(
    adapter_BE: Tensor, text_TE: Tensor, owner_T: Tensor, logit_scale: Tensor
) -> Tensor:
    """Symmetric InfoNCE where every description of an adapter is its positive.

    Source: SupCon (Khosla et al., arXiv 2004.11362), mean of log-probabilities over positives.

    Args:
        adapter_BE: Unit vectors of adapters of different tasks.
        text_TE: Unit vectors of their descriptions.
        owner_T: The adapter that each text describes.
        logit_scale: Logarithm of the inverse temperature.
    """
    logits_BT = logit_scale.clamp(max=4.6).exp() * adapter_BE @ text_TE.mT
    positive_BT = owner_T[None] == torch.arange(len(adapter_BE), device=owner_T.device)[:, None]
    to_text_B = -(logits_BT.log_softmax(1) * positive_BT).sum(1) / positive_BT.sum(1)
    to_adapter_T = nn.functional.cross_entropy(logits_BT.mT, owner_T)
    return (to_text_B.mean() + to_adapter_T) / 2


def retrieval_ranks(adapter_BE: Tensor, text_BE: Tensor) -> Tensor:
    """How many other adapters each text prefers to its own, (B,)."""
    scores_BB = text_BE @ adapter_BE.mT
    own_B1 = scores_BB.diagonal()[:, None]
    # Ties count against the encoder: a constant one must not look perfect.
    return (scores_BB >= own_B1).sum(1) - 1


class EncoderTask:
    """See `training.task.Task`."""

    def __init__(self, config: EncoderTaskConfig, context: TaskContext) -> None:
        self.config, self.context = config, context
        for split in (*config.splits, config.validation_split):
            require_split(split)
        with Zoo.open(config.zoo, read_only=True) as zoo:
            self.corpus = corpus_of(zoo, config.corpus, Path(config.cache))
        known = self.corpus.of(config.splits)
        held = {name for name in self._families(known) if self._calibrates(name)}
        self.train = [i for i in known if self.corpus.families[i] not in held]
        self.calibration = [i for i in known if self.corpus.families[i] in held]
        self.validation = self.corpus.of([config.validation_split])
        if len(self.train) < context.batch_size:
            raise ConfigError(
                f"`task.splits` leaves {len(self.train)} adapters to learn from, but a batch has "
                f"{context.batch_size}. Lower `batch_size`, or add adapters."
            )
        self.encoder = self._build()
        self.model: nn.Module = self.encoder
        self.slots = slots_of(self.encoder, self.corpus.roles, self.corpus.side)
        fit_projection(self.encoder, self.corpus, self.slots, self.train)
        self.content = self._project()
        texts = TextProjection.fit(self.corpus, self.train, config.model.embed_dim)
        described = texts.means(self.corpus, self.train)
        parts = (self.train[s : s + _AT_ONCE] for s in range(0, len(self.train), _AT_ONCE))
        ridge = config.objective.ridge
        with torch.no_grad():
            self.encoder.text_center.copy_(texts.center)
            self.encoder.text_readout.copy_(texts.basis)
        fit_readout(self.encoder, map(self.modules, parts), described, ridge)
        self.texts: dict[int, list[int]] = {}
        for row, owner in enumerate(self.corpus.owners.tolist()):
            self.texts.setdefault(owner, []).append(row)

    def _families(self, entries: list[int]) -> list[str]:
        return sorted({self.corpus.families[i] for i in entries})

    def _calibrates(self, family: str) -> bool:
        draw = derive_seed(self.context.seed, "calibration", family)
        return draw % 1000 < 1000 * self.config.calibration_share

    def _build(self) -> AdapterEncoder:
        present = {int(role) for role in torch.unique(self.corpus.roles)}
        encoder: AdapterEncoder = AdapterEncoder(
            roles=tuple(role for i, role in enumerate(ROLES) if i in present),
            feature_dim=self.corpus.sketches.shape[1],
            side_dim=self.corpus.side.shape[1],
            text_dim=self.corpus.segments.shape[2],
            text_segments=self.corpus.segments.shape[1] - 1,
            text_fingerprint=self.corpus.text_fingerprint,
            trained_bases=tuple(sorted({self.corpus.bases[i] for i in self.train})),
            **asdict(self.config.model),
        )
        return encoder

    @torch.no_grad()
    def _project(self) -> Tensor:
        parts = [
            self.encoder.project(
                self.corpus.sketches[s : s + 4096].float(), self.slots[s : s + 4096]
            )
            for s in range(0, len(self.slots), 4096)
        ]
        return torch.cat(parts).half()

    def modules(self, entries: list[int]) -> ModuleSet:
        """Entries of the corpus as the network reads them."""
        return stacked_modules(self.corpus, entries, self.content, self.slots)

    def batch(self, index: int) -> dict[str, Any]:
        """Micro-batch `index`: adapters, some wordings of each, measured accuracies."""
        seed = self.context.seed
        positions = batch_positions(
            index, batch_size=self.context.batch_size, length=len(self.train), seed=seed
        )
        rng = random.Random(derive_seed(seed, "batch", index))
        entries = [self.train[i] for i in positions.tolist()]
        count = self.config.objective.wordings_per_entry
        rows = [
            (b, row) for b, i in enumerate(entries) for row in rng.choices(self.texts[i], k=count)
        ]
        return {
            "modules": self.modules(entries),
            "segments": self.corpus.segments[[row for _, row in rows]].float(),
            "owners": torch.tensor([b for b, _ in rows]),
            "accuracy": self.corpus.accuracy[entries],
        }

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Contrastive loss and the squared error of the quality members."""
        goal, modules = self.config.objective, batch["modules"]
        device = modules.mask.device
        noise = torch.randn(modules.content.shape, generator=generator, device=device)
        drawn = torch.rand(modules.mask.shape, generator=generator, device=device)
        seen = ModuleSet(
            **{**vars(modules), "content": modules.content + goal.content_noise * noise}
        ).without(_some_left(drawn < goal.module_dropout, modules.mask))
        adapter_BE, text_TE, quality_BM = model(seen, batch["segments"])
        scale = self.encoder.logit_scale
        contrast = contrastive_loss(adapter_BE, text_TE, batch["owners"], scale)
        measured_B = ~batch["accuracy"].isnan()
        error_BM = quality_BM - batch["accuracy"].nan_to_num()[:, None]
        quality = (error_BM.square().mean(1) * measured_B).sum() / measured_B.sum().clamp_min(1)
        total = contrast + goal.quality_weight * quality
        return total, {"contrast": contrast.detach(), "quality": quality.detach()}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Text to weights on adapters of unseen tasks, each described by its first wording."""
        found = {}
        for name, entries in (("validation", self.validation), ("calibration", self.calibration)):
            if entries:
                adapters, _ = self._embed(model, entries)
                rows = [self.texts[i][0] for i in entries]
                segments = self.corpus.segments[rows].float().to(self.context.device)
                encoder: AdapterEncoder = model  # type: ignore[assignment]
                ranks = retrieval_ranks(adapters, encoder.embed_texts(segments)).float()
                found[f"top1_{name}"] = float((ranks < 1).float().mean())
                found[f"top10_{name}"] = float((ranks < 10).float().mean())
        return found

    def _embed(self, model: nn.Module, entries: list[int]) -> tuple[Tensor, Tensor]:
        """(vectors (B, E), what quality reads (B, S)) of entries."""
        encoder: AdapterEncoder = model  # type: ignore[assignment]
        vectors, inputs = [], []
        for start in range(0, len(entries), _AT_ONCE):
            modules = self.modules(entries[start : start + _AT_ONCE]).to(self.context.device)
            summary = encoder.summary(modules)
            vectors.append(encoder.embed(modules, summary))
            inputs.append(encoder.quality_input(summary, modules))
        return torch.cat(vectors), torch.cat(inputs)

    @torch.no_grad()
    def save(self, folder: Path, model: nn.Module) -> None:
        """Calibrate on what was kept back, then write the encoder."""
        encoder: AdapterEncoder = model  # type: ignore[assignment]
        was_training = encoder.training
        encoder.train(False)
        _, train_BS = self._embed(encoder, self.train)
        measured = [i for i in self.calibration if not bool(self.corpus.accuracy[i].isnan())]
        if measured:
            _, held_BS = self._embed(encoder, measured)
            truth = self.corpus.accuracy[measured].to(held_BS.device)
            fit_reach(encoder.quality, encoder.quality(held_BS), truth, self.config.coverage)
            fit_support(encoder.quality, train_BS, held_BS)
        encoder.train(was_training)
        encoder.save_pretrained(folder)

    def parents(self) -> list[str]:
        """The zoo's entries that this learned from; see `training.task.DerivedTask`."""
        return sorted(f"zoo:{self.corpus.ids[i]}" for i in (*self.train, *self.calibration))

    def fingerprint(self) -> str:
        """Hash of the zoo's entries and of what is taken of them."""
        key = f"{self.corpus.ids}{self.corpus.text_fingerprint}{asdict(self.config.corpus)}"
        return blake2b(key.encode(), digest_size=16).hexdigest()


def _some_left(dropped_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """The modules to hide, none where that would hide all."""
    left_B1 = (mask_BN & ~dropped_BN).any(1, keepdim=True)
    return dropped_BN & left_B1


def build_encoder_task(config: EncoderTaskConfig, context: TaskContext) -> EncoderTask:
    """The encoder task of a recipe."""
    return EncoderTask(config, context)
