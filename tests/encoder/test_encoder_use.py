"""The encoder before candidates, and what adapters do before a base."""

from dataclasses import replace

import pytest
import torch
from adapter_factories import random_adapter
from encoder_factories import tiny_encoder, tiny_spec

from lora_gen.assets import asset_path
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import ConfigError
from lora_gen.retrieval.behavior import BEHAVIOR_WIDTH, behavior_signatures
from lora_gen.retrieval.encoder import WeightEncoder
from lora_gen.retrieval.frames import HashedFrames
from lora_gen.retrieval.predict import rank_candidates
from lora_gen.zoo.store import Zoo


def test_candidates_are_ordered_by_what_they_should_do() -> None:
    encoder = WeightEncoder(tiny_encoder(), HashedFrames(4))
    adapters = [random_adapter(tiny_spec(), seed=seed) for seed in range(4)]
    wanted = encoder.embed(encoder.features(adapters[2]))
    orders = rank_candidates(adapters, encoder, wanted)
    assert orders["agreement"][0] == 2
    assert sorted(orders["quality"]) == [0, 1, 2, 3]


def test_behavior_is_the_same_in_every_gauge_and_grows_apart_with_the_weights() -> None:
    model, chat = load_causal_lm("tiny_lm")
    with Zoo.open(asset_path("tiny_lm", "zoo"), read_only=True) as zoo:
        one, two = (zoo.load(entry_id) for entry_id in zoo.ids()[:2])
    turned = {
        name: replace(pair, lora_b=pair.lora_b.float() * 2, lora_a=pair.lora_a.float() / 2)
        for name, pair in one.pairs.items()
    }
    same = replace(one, pairs=turned)
    found = behavior_signatures(model, chat, [one, same, two])
    assert found.shape == (3, BEHAVIOR_WIDTH)
    assert float(found[0] @ found[1]) == pytest.approx(1.0, abs=1e-4)
    assert float(found[0] @ found[2]) < 0.99
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    with pytest.raises(ConfigError, match="`probes` is empty"):
        behavior_signatures(model, chat, [one], probes=())
