"""Features of a base: its size and shape as numbers, nothing that names it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lora_gen.adapter.base_model import BaseModelSpec

NUM_BASE_FEATURES = 12


def base_features(spec: BaseModelSpec) -> Tensor:
    """Features of a base, (NUM_BASE_FEATURES,) float32.

    Logarithms of layers, width, number of modules and weights in them; kind of model; task type;
    which module types there are. Two bases of one architecture and size have equal features.
    """
    shapes = list(spec.modules.values())
    weights = sum(
        s.out_features * s.in_features * (math.prod(s.kernel) if s.kernel else 1) for s in shapes
    )
    types = [float(any(s.type == kind for s in shapes)) for kind in ("linear", "conv1d", "conv2d")]
    sizes = [
        math.log2(max(1, spec.num_layers)) / 8,
        math.log2(max(1, spec.hidden_size)) / 16,
        math.log2(max(1, len(shapes))) / 16,
        math.log2(max(1, weights)) / 40,
        math.log2(max(s.out_features for s in shapes) / min(s.in_features for s in shapes)) / 16,
    ]
    tasks = [float(spec.task_type == t) for t in ("CAUSAL_LM", "SEQ_2_SEQ_LM")]
    return torch.tensor([1.0, *sizes, *types, float(spec.kind == "diffusers"), *tasks])
