"""The encoder of weights: contrastive with frozen text, quality heads on the finished trunk.

Shapes: B adapters, T texts, K tokens, E embedding width, S width of what quality reads.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.codec.roles import ROLES
from lora_gen.errors import ConfigError
from lora_gen.models.adapter_encoder import AdapterEncoder, ModuleSet
from lora_gen.retrieval.base_frames import FRAMES_NAME
from lora_gen.retrieval.described import DESCRIBED_NAME, save_described
from lora_gen.retrieval.encoder import slots_of
from lora_gen.retrieval.facts import FACTS
from lora_gen.retrieval.fit import TextProjection
from lora_gen.retrieval.fit_shown import StateProjection, fit_text_to_states
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.retrieval.readout import ReadoutFit
from lora_gen.zoo.splits import require_split
from training.encoder_config import EncoderTaskConfig
from training.encoder_data import is_copy, load_encoder_data, recipe_labels
from training.encoder_quality import fit_quality
from training.order import batch_positions, derive_seed
from training.task import TaskContext


def contrastive_loss(
    adapter_BE: Tensor, text_TE: Tensor, positive_BT: Tensor, logit_scale: Tensor
) -> Tensor:
    """Symmetric InfoNCE where every description of an adapter's task is its positive.

    Source: SupCon (Khosla et al., arXiv 2004.11362), mean of log-probabilities over positives.

    Args:
        adapter_BE: Unit vectors of adapters.
        text_TE: Unit vectors of descriptions; those without an adapter are negatives.
        positive_BT: Whether the text describes the adapter's task.
        logit_scale: Logarithm of the inverse temperature.
    """
    logits_BT = logit_scale.clamp(max=4.6).exp() * adapter_BE @ text_TE.mT
    described_T = positive_BT.any(0)
    to_adapter = _positive_loss(logits_BT.mT[described_T], positive_BT.mT[described_T])
    return (_positive_loss(logits_BT, positive_BT) + to_adapter) / 2


def _positive_loss(logits_BT: Tensor, positive_BT: Tensor) -> Tensor:
    log_share_BT = logits_BT.log_softmax(1)
    return -((log_share_BT * positive_BT).sum(1) / positive_BT.sum(1)).mean()


class ReversedGradient(torch.autograd.Function):
    """Identity whose gradient is turned round and weighted.

    Source: Ganin & Lempitsky, arXiv 1409.7495.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        """`x` itself."""
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Minus `weight` times the gradient."""
        return -ctx.weight * gradient, None


class EncoderModule(nn.Module):
    """The encoder, and the judge of recipes that it should leave without evidence."""

    def __init__(self, encoder: AdapterEncoder, classes: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.judges = nn.ModuleList(nn.Linear(encoder.config.embed_dim, n) for n in classes)

    def forward(
        self, modules: ModuleSet, states_TKC: Tensor, mask_TK: Tensor, reverse: float
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(vectors of adapters, vectors of texts, logits of each judge)."""
        adapter_BE, text_TE = self.encoder(modules, states_TKC, mask_TK)
        turned_BE: Tensor = ReversedGradient.apply(adapter_BE, reverse)  # type: ignore[no-untyped-call]
        return adapter_BE, text_TE, [judge(turned_BE) for judge in self.judges]


def retrieval_ranks(adapter_BE: Tensor, text_QE: Tensor, positive_QB: Tensor) -> Tensor:
    """How many wrong adapters each text prefers to its best right one, (Q,)."""
    scores_QB = text_QE @ adapter_BE.mT
    best_Q1 = scores_QB.masked_fill(~positive_QB, -torch.inf).amax(1, keepdim=True)
    # Ties count against the encoder: a constant one must not look perfect.
    return ((scores_QB >= best_Q1) & ~positive_QB).sum(1)


class EncoderTask:
    """See `training.task.Task`."""

    def __init__(self, config: EncoderTaskConfig, context: TaskContext) -> None:
        self.config, self.context = config, context
        for split in config.splits:
            require_split(split)
        self.data = load_encoder_data(config, context.seed)
        self.corpus = self.data.corpus
        described = self.data.texts.rows
        good = self.corpus.of(config.splits, min_accuracy=config.min_accuracy)
        held = self.data.held_out
        good = sorted(i for i in good if self.corpus.tasks[i] in described and self._is_trained(i))
        self.train = [
            i for i in good if self.data.parts[i] == "train" and self.corpus.tasks[i] not in held
        ]
        self.validation = [
            i for i in good if self.corpus.tasks[i] in held and not is_copy(self.corpus, i)
        ]
        if len(self.train) < context.batch_size:
            raise ConfigError(
                f"`task.splits` leaves {len(self.train)} adapters to learn from, but a batch has "
                f"{context.batch_size}. Lower `batch_size`, or add adapters."
            )
        own = {self.corpus.tasks[i] for i in self.train}
        self.practice = sorted(set(described) - set(self.corpus.tasks) - held)
        self.labels = recipe_labels(self.corpus)
        self.encoder = self._build()
        classes = [int(label.max()) + 1 for label in self.labels]
        self.model: nn.Module = EncoderModule(self.encoder, classes)
        slots = slots_of(self.encoder, self.corpus.roles, self.corpus.side)
        self.readout = ReadoutFit(self.encoder, self.corpus, slots, self.train)
        self._fit_closed_form(sorted(own))
        self.reader = CorpusReader(self.encoder, self.corpus)

    def _is_trained(self, entry: int) -> bool:
        """Whether an adapter was trained; generated ones teach quality alone."""
        return "generated" not in json.loads(self.corpus.facts[entry])

    def _build(self) -> AdapterEncoder:
        present = {int(role) for role in torch.unique(self.corpus.roles)}
        encoder: AdapterEncoder = AdapterEncoder(
            roles=tuple(role for i, role in enumerate(ROLES) if i in present),
            feature_dim=self.corpus.sketches.shape[1],
            side_dim=self.corpus.side.shape[1],
            views=self.config.corpus.views,
            text_dim=self.data.texts.states.shape[1],
            text_segments=self.config.corpus.text_segments,
            num_answers=sum(map(len, FACTS.values())),
            shown_dim=len(next(iter(self.data.states.values()), ())),
            text_fingerprint=self.data.texts.fingerprint,
            trained_bases=tuple(sorted({self.corpus.bases[i] for i in self.train})),
            **asdict(self.config.model),
        )
        return encoder

    @torch.no_grad()
    def _fit_closed_form(self, own: Sequence[str]) -> None:
        """The linear read-outs of texts and of weights: where training begins."""
        texts, segments = self.data.texts, self.config.corpus.text_segments
        names, states = (*own, *self.practice), self.data.states
        rows = [(n, row) for n, task in enumerate(names) for row in texts.rows[task]]
        pooled_TS = texts.pooled([row for _, row in rows], segments)
        owners_T = torch.tensor([n for n, _ in rows])
        width = self.config.model.embed_dim // (2 if states else 1)
        projection = TextProjection.fit(pooled_TS, owners_T, width)
        means_NE = torch.zeros(len(names), width)
        means_NE.index_add_(0, owners_T, projection(pooled_TS))
        means_NE = means_NE / torch.bincount(owners_T)[:, None]
        readout_SE = projection.basis
        if states:
            shown_NH = self._fit_shown([n for n in names if n in states])
            known_T = torch.tensor([names[n] in states for n in owners_T.tolist()])
            target_NH = torch.zeros(len(names), width)
            target_NH[[n for n, name in enumerate(names) if name in states]] = shown_NH
            found_SH = fit_text_to_states(
                pooled_TS[known_T], projection.center, target_NH[owners_T[known_T]]
            )
            readout_SE = torch.cat([readout_SE, found_SH], 1)
            means_NE = torch.cat([means_NE, target_NH], 1)
        self.encoder.text.center.copy_(projection.center)
        self.encoder.text.readout.copy_(readout_SE)
        place = {task: n for n, task in enumerate(own)}
        self.targets = means_NE[[place[self.corpus.tasks[i]] for i in self.train]]
        self.fit_readout(set())

    def _fit_shown(self, names: Sequence[str]) -> Tensor:
        """Directions of what tasks are to the base, into the buffers; the tasks along them."""
        states_NS = torch.stack([self.data.states[name] for name in names])
        layers = 2 * BaseModelSpec.from_config(self.config.base).num_layers
        half = self.config.model.embed_dim // 2
        found = StateProjection.fit(states_NS, layers, half)
        self.encoder.shown_center.copy_(found.center)
        self.encoder.shown_basis.copy_(found.basis)
        return found(states_NS)

    def fit_readout(self, without: set[str]) -> None:
        """The read-out of weights in closed form, from all training tasks but some."""
        chosen = [n for n, i in enumerate(self.train) if self.corpus.tasks[i] not in without]
        self.readout.solve(chosen, self.targets[chosen], self.config.objective.ridge)

    def batch(self, index: int) -> dict[str, Any]:
        """Micro-batch `index`: adapters, wordings of their tasks, wordings of practice tasks."""
        seed, count = self.context.seed, self.config.objective.wordings_per_entry
        positions = batch_positions(
            index, batch_size=self.context.batch_size, length=len(self.train), seed=seed
        )
        rng = random.Random(derive_seed(seed, "batch", index))
        entries = [self.train[i] for i in positions.tolist()]
        tasks = sorted({self.corpus.tasks[i] for i in entries})
        others = rng.sample(self.practice, min(len(tasks) // 2, len(self.practice)))
        of_task = self.data.texts.rows
        rows = [(t, row) for t in (*tasks, *others) for row in rng.choices(of_task[t], k=count)]
        states_TKC, mask_TK = self.data.texts.padded([row for _, row in rows])
        positive = [[self.corpus.tasks[i] == task for task, _ in rows] for i in entries]
        return {
            "modules": self.reader.modules(entries),
            "states": states_TKC,
            "mask": mask_TK,
            "positive": torch.tensor(positive),
            "recipes": [label[entries] for label in self.labels],
        }

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Contrastive loss, and what the judges of recipes find out."""
        goal, modules = self.config.objective, batch["modules"]
        device = modules.mask.device
        noise = torch.randn(modules.content.shape, generator=generator, device=device)
        drawn = torch.rand(modules.mask.shape, generator=generator, device=device)
        seen = ModuleSet(
            **{**vars(modules), "content": modules.content + goal.content_noise * noise}
        ).without(_some_left(drawn < goal.module_dropout, modules.mask))
        weight = goal.recipe_weight
        adapter_BE, text_TE, judged = model(seen, batch["states"], batch["mask"], weight)
        scale = self.encoder.logit_scale
        contrast = contrastive_loss(adapter_BE, text_TE, batch["positive"], scale)
        found = [
            nn.functional.cross_entropy(logits.float(), label)
            for logits, label in zip(judged, batch["recipes"], strict=True)
        ]
        recipe = torch.stack(found).mean()
        return contrast + recipe, {"contrast": contrast.detach(), "recipe": recipe.detach()}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Text to weights on adapters of unseen tasks, each task described by its first wording."""
        if not self.validation:
            return {}
        tasks = sorted({self.corpus.tasks[i] for i in self.validation})
        texts = self.data.texts
        text_QE = self.reader.embed_texts(texts, [texts.rows[task][0] for task in tasks])
        adapter_BE, _ = self.reader.embed(self.validation)
        right_QB = torch.tensor(
            [[self.corpus.tasks[i] == task for i in self.validation] for task in tasks]
        ).to(adapter_BE.device)
        ranks = retrieval_ranks(adapter_BE, text_QE, right_QB).float()
        return {
            "top1_validation": float((ranks < 1).float().mean()),
            "top10_validation": float((ranks < 10).float().mean()),
        }

    def save(self, folder: Path, model: nn.Module) -> None:
        """Fit and calibrate the quality heads on the finished trunk, then write the encoder."""
        was_training = self.encoder.training
        self.encoder.train(False)
        described = fit_quality(self, steps=self.config.objective.quality_steps)
        self.encoder.train(was_training)
        self.encoder.save_pretrained(folder)
        if self.data.frames is not None:
            self.data.frames.save(folder / FRAMES_NAME)
        if described is not None:
            save_described(described, folder / DESCRIBED_NAME)

    def parents(self) -> list[str]:
        """The zoos' entries that it was fitted, calibrated or chosen on; see `DerivedTask`."""
        return sorted({f"zoo:{entry_id}" for entry_id in self.corpus.ids})

    def fingerprint(self) -> str:
        """Hash of the zoos' entries and of what is taken of them."""
        key = f"{self.corpus.ids}{self.data.texts.fingerprint}{asdict(self.config.corpus)}"
        return blake2b(key.encode(), digest_size=16).hexdigest()


def _some_left(dropped_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """The modules to hide, none where that would hide all."""
    left_B1 = (mask_BN & ~dropped_BN).any(1, keepdim=True)
    return dropped_BN & left_B1


def build_encoder_task(config: EncoderTaskConfig, context: TaskContext) -> EncoderTask:
    """The encoder task of a recipe."""
    return EncoderTask(config, context)
