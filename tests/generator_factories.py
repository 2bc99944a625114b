"""Tiny bases, networks, conditions, text encoders and data of generators, offline, from a seed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from adapter_factories import random_adapter, tiny_spec
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec, ModuleShape
from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.condition import (
    Condition,
    base_condition,
    encode_examples,
    encode_prompts,
)
from lora_gen.conditioning.text import TextStates
from lora_gen.models.recurrent_denoiser import Prototype, RecurrentDenoiser
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from recipes.tiny_lm.tokenizer import BOS, EOS, NEWLINE_ID, PAD, VOCAB_SIZE, build_tokenizer
from training.behavior_data import BehaviorRecord, write_behaviors

WIDTH = 16
TEXT_DIM = 8
EXAMPLE_DIM, LATENT_DIM = 6, 3
SIZES: dict[str, Any] = {
    "hidden_dim": 16,
    "backbone_layers": 2,
    "denoiser_layers": 1,
    "num_heads": 2,
    "ff_multiple": 2,
    "byte_dim": 8,
}


def conv_spec() -> BaseModelSpec:
    """A Diffusers-like base with a convolution and a linear module."""
    modules = {
        "unet.down.0.conv1": ModuleShape(
            type="conv2d", out_features=6, in_features=4, kernel=(3, 3)
        ),
        "unet.down.1.attn.to_q": ModuleShape(
            type="linear", out_features=8, in_features=6, kernel=None
        ),
    }
    return BaseModelSpec(
        id="acme/unet",
        kind="diffusers",
        architecture="UNet2DConditionModel",
        task_type=None,
        modules=modules,
        num_layers=2,
        hidden_size=8,
        config_hash="0" * 64,
    )


def tiny_layout(rank: int = 4, *, width: int = WIDTH, spec: BaseModelSpec | None = None) -> Any:
    return TokenLayout.build(spec or tiny_spec(), rank=rank, width=width)


def perturb(module: nn.Module, seed: int = 0, size: float = 0.2) -> None:
    """Move every parameter off its start, so that what begins at zero takes part in the test."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=source)
        for part in module.modules():
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx] = 0


def tiny_denoiser(
    seed: int = 0, kind: type[RecurrentDenoiser] = RecurrentDenoiser, **config: Any
) -> Any:
    torch.manual_seed(seed)
    denoiser = kind(token_width=WIDTH, text_dim=TEXT_DIM, **SIZES, **config).eval()
    perturb(denoiser, seed)
    return denoiser


class TrueDenoiser(RecurrentDenoiser):
    """Knows the data: whatever the noise, its clean tokens are `data`."""

    data: Tensor

    def clean(self, noisy_BND: Tensor, level_B: Tensor, prototype: Prototype) -> Tensor:
        return self.data.expand_as(noisy_BND)


class StubTextEncoder:
    """A word is a fixed random vector; what the pipeline and training ask of a text encoder."""

    name = "stub"
    fingerprint = "5" * 64
    width = TEXT_DIM

    def to(self, device: Any) -> StubTextEncoder:
        return self

    def encode(self, texts: Sequence[str]) -> TextStates:
        rows = [torch.stack([self._vector(word) for word in text.split()]) for text in texts]
        states = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        return TextStates(states=states, mask=torch.arange(states.shape[1]) < lengths[:, None])

    def pool(self, states: TextStates) -> Tensor:
        mask = states.mask[..., None]
        return nn.functional.normalize((states.states * mask).sum(1) / mask.sum(1), dim=-1)

    def _vector(self, word: str) -> Tensor:
        source = torch.Generator().manual_seed(zlib.crc32(word.encode()))
        return torch.randn(self.width, generator=source)


def tiny_condition(spec: BaseModelSpec | None = None) -> Condition:
    """Two rows with every part; the second row's parts are shorter, so the first ones pad them."""
    texts = StubTextEncoder().encode(["write it in capital letters", "reverse it"])
    return Condition(
        text_states=texts.states,
        text_mask=texts.mask,
        prompt_bytes=encode_prompts([["Anna Lee", "Bo"], ["x"]]),
        example_bytes=encode_examples([[("ab", "AB"), ("hello", "HELLO")], [("ab", "ba")]]),
        base_features=base_condition(spec or tiny_spec(), 2),
        example_states=torch.arange(2 * 2 * EXAMPLE_DIM).view(2, 2, -1) / 10,
        example_mask=torch.tensor([[True, True], [True, False]]),
        latent=torch.linspace(-1, 1, 2 * LATENT_DIM).view(2, -1),
    )


def row_of(condition: Condition, row: int) -> Condition:
    """One row alone, its padding cut off."""
    parts = condition
    length = int(parts.text_mask[row].sum())
    prompts, examples = (_trimmed(x[row]) for x in (parts.prompt_bytes, parts.example_bytes))
    return Condition(
        text_states=parts.text_states[row : row + 1, :length],
        text_mask=parts.text_mask[row : row + 1, :length],
        prompt_bytes=prompts[None],
        example_bytes=examples[None],
        base_features=parts.base_features[row : row + 1],
        example_states=parts.example_states[row : row + 1, : int(parts.example_mask[row].sum())],
        example_mask=parts.example_mask[row : row + 1, : int(parts.example_mask[row].sum())],
        latent=parts.latent[row : row + 1],
    )


def _trimmed(bytes_PL: Tensor) -> Tensor:
    used = bytes_PL != 0
    return bytes_PL[used.any(1)][:, used.any(0)]


def byte_base(folder: Path, seed: int = 0) -> Path:
    """A random byte-level Llama with the tokenizer of `tiny_lm`; inputs do change its answers."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.5,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=[EOS, NEWLINE_ID],
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [EOS, NEWLINE_ID]
    model.generation_config.pad_token_id = PAD
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def base_adapter(base: Path, seed: int = 0, *, rank: int = 2) -> Adapter:
    return random_adapter(BaseModelSpec.from_config(str(base)), rank=rank, seed=seed)


TASKS = {"upper": str.upper, "lower": str.lower, "reverse": lambda s: s[::-1], "title": str.title}
"""The first three are seen, the last one is held out."""


def task_pairs(name: str, start: int = 0, count: int = 18) -> tuple[tuple[str, str], ...]:
    inputs = [f"Ab{chr(97 + (start + i) % 26)} {start + i}" for i in range(count)]
    return tuple((text, TASKS[name](text)) for text in inputs)


def task_split(name: str) -> Any:
    return "unseen_composition" if name == "title" else "seen"


def behavior_file(path: Path, *, count: int = 18) -> Path:
    records = [
        BehaviorRecord(
            task=name,
            split=task_split(name),
            descriptions=(f"make it {name}", f"apply {name} to the text"),
            examples=task_pairs(name, count=count),
        )
        for name in TASKS
    ]
    write_behaviors(path, records)
    return path


def task_zoo(folder: Path, base: Path, names: Sequence[str] = tuple(TASKS)) -> Path:
    """One random adapter a task, with descriptions, examples and tests."""
    items = [
        (
            base_adapter(base, seed),
            EntryInfo(
                task=name,
                split=task_split(name),
                descriptions=(f"make it {name}", f"apply {name} to the text"),
                examples=task_pairs(name),
                extra={
                    "tests": task_pairs(name, 20, 4),
                    "held_out_descriptions": [f"please {name} the thing"],
                },
            ),
        )
        for seed, name in enumerate(names)
    ]
    with Zoo.open(folder, create=True) as zoo:
        zoo.add_many(items)
    return folder
