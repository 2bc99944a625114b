"""A small untrained encoder with buffers fitted to random adapters."""

from __future__ import annotations

import torch
from adapter_factories import random_adapter
from transformers import LlamaConfig

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.models.adapter_encoder import AdapterEncoder
from lora_gen.retrieval.features import (
    NUM_PLACE_FEATURES,
    NUM_SHAPE_FEATURES,
    VIEWS,
    AdapterFeatures,
    module_features,
)
from lora_gen.retrieval.frames import HashedFrames

SKETCH = 4
FEATURE_DIM = 2 * SKETCH**2 + SKETCH * (SKETCH + 1)
ROLES = ("q", "k", "v", "o", "gate", "up", "down")


def tiny_spec(layers: int = 2, width: int = 8) -> BaseModelSpec:
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=width,
        intermediate_size=12,
        num_hidden_layers=layers,
        num_attention_heads=2,
        architectures=["LlamaForCausalLM"],
    )
    return BaseModelSpec.from_config(config, id="tiny")


def tiny_encoder(seed: int = 0, **changes: object) -> AdapterEncoder:
    torch.manual_seed(seed)
    sizes: dict[str, object] = {
        "feature_dim": FEATURE_DIM,
        "views": VIEWS,
        "token_dim": 6,
        "hidden_dim": 8,
        "embed_dim": 5,
        "text_dim": 7,
        "text_hidden": 8,
        "num_answers": 10,
        **changes,
    }
    model = AdapterEncoder(roles=ROLES, side_dim=NUM_PLACE_FEATURES + NUM_SHAPE_FEATURES, **sizes)
    model.basis.normal_()
    for parameter in (
        model.readout,
        model.text.readout,
        model.output.weight,
        model.text.output.weight,
    ):
        torch.nn.init.normal_(parameter, std=0.3)
    return model.train(False)


def tiny_features(
    seed: int = 0, *, target: object = "all-linear", rank: int = 3
) -> AdapterFeatures:
    adapter = random_adapter(tiny_spec(), target=target, rank=rank, seed=seed)
    return module_features(adapter, HashedFrames(SKETCH))
