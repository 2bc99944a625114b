"""A command line without models: fakes for the pipeline and the runner, and a way to call verbs."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import Result
from transformers import LlamaConfig
from typer.testing import CliRunner

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.cli.main import app


def lora_gen(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tiny_base(folder: Path) -> Path:
    LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)
    return folder


def tiny_adapter(base: Path, *, rank: int = 2, seed: int = 0) -> Adapter:
    random = torch.Generator().manual_seed(seed)
    spec = BaseModelSpec.from_config(str(base))
    pairs = {}
    for name, shape in spec.modules.items():
        if name not in spec.heads:
            a_shape, b_shape = shape.factor_shapes(rank)
            pairs[name] = LoraPair(
                lora_a=torch.randn(a_shape, generator=random),
                lora_b=torch.randn(b_shape, generator=random),
            )
    return Adapter(pairs=pairs, base=str(base), task_type="CAUSAL_LM")


@dataclass
class FakeOutput:
    adapters: list[Adapter]
    provenance: list[dict[str, Any]]


@dataclass
class FakePipeline:
    """Answers a call with adapters seeded by its generator, and keeps what it was called with."""

    source: Any = None
    call: dict[str, Any] = field(default_factory=dict)
    timesteps = range(4)

    def from_pretrained(self, source: Any) -> "FakePipeline":
        self.source = source
        return self

    @property
    def scheduler(self) -> "FakePipeline":
        return self

    def __call__(self, **call: Any) -> FakeOutput:
        self.call = call
        for step in range(4):
            call["callback_on_step_end"](self, step, torch.tensor(0), {})
        seed = call["generator"].initial_seed()
        adapters = [
            tiny_adapter(Path(call["base"]), rank=call["rank"], seed=seed + i)
            for i in range(call["num_adapters"])
        ]
        record = {"text": call["text"], "base": call["base"], "seed": seed}
        return FakeOutput(adapters, [record for _ in adapters])


class FakeRunner:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answer(self, inputs: list[str], adapter: Adapter | None) -> list[str]:
        return [text.upper() if adapter else f"{text}?" for text in inputs]


def fake_models(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    pipeline = FakePipeline()
    fakes = {
        "lora_gen.pipeline": {"LoraGenPipeline": pipeline},
        "lora_gen.evaluation.behavior": {"TaskRunner": FakeRunner},
    }
    for name, content in fakes.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return pipeline
