"""The read-out in closed form, and the frames that follow adapters."""

import json
from dataclasses import replace

import pytest
import torch
from adapter_factories import random_adapter
from encoder_factories import tiny_encoder, tiny_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_gen.errors import AdapterValueError
from lora_gen.retrieval.corpus import Corpus, parts_of
from lora_gen.retrieval.features import features_of_many, module_features
from lora_gen.retrieval.frames import HashedFrames
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.retrieval.readout import ReadoutFit
from training.zoo_frames import fit_zoo_frames

COUNT, WIDTH = 40, 12


def corpus_of(sketches: torch.Tensor) -> Corpus:
    """Adapters of two modules."""
    return Corpus(
        sketches=sketches.view(-1, WIDTH),
        roles=torch.tensor([0, 5]).repeat(COUNT),
        side=torch.rand(2 * COUNT, 20),
        scale=torch.randn(2 * COUNT),
        offsets=torch.arange(COUNT + 1) * 2,
        accuracy=torch.rand(COUNT),
        ids=tuple(f"{i:040x}" for i in range(COUNT)),
        splits=("seen",) * COUNT,
        tasks=tuple(str(i // 2) for i in range(COUNT)),
        bases=("tiny",) * COUNT,
        facts=(json.dumps({"rank": 2, "steps": 1}),) * COUNT,
    )


def test_readout_finds_a_linear_map_with_as_few_directions_as_it_has() -> None:
    torch.manual_seed(0)
    sketches = torch.randn(COUNT, 2, WIDTH)
    target = sketches.flatten(1) @ torch.randn(2 * WIDTH, 3)
    target = target - target.mean(0)
    model = tiny_encoder(embed_dim=3, token_dim=3, feature_dim=WIDTH, depth_bins=1)
    torch.nn.init.zeros_(model.output.weight)
    corpus = corpus_of(sketches)
    slots = CorpusReader(model, corpus).slots
    ReadoutFit(model, corpus, slots, range(COUNT)).solve(range(COUNT), target, 1e-4)
    vectors, _ = CorpusReader(model, corpus).embed(range(COUNT))
    torch.testing.assert_close(vectors, torch.nn.functional.normalize(target), atol=0.02, rtol=0.02)


def test_reader_of_some_entries_reads_them_alike() -> None:
    torch.manual_seed(1)
    corpus = corpus_of(torch.randn(COUNT, 2, WIDTH))
    model = tiny_encoder(feature_dim=WIDTH, depth_bins=1)
    some = CorpusReader(model, corpus, [3, 8]).embed([3, 8])[0]
    torch.testing.assert_close(some, CorpusReader(model, corpus).embed([3, 8])[0])


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from(["mlp", "attention"]))
def test_features_of_many_are_those_of_each(ranks: list[int], target: str) -> None:
    adapters = [
        random_adapter(tiny_spec(), rank=rank, seed=i, target=target if i % 2 else "all-linear")
        for i, rank in enumerate(ranks)
    ]
    for adapter, found in zip(adapters, features_of_many(adapters, HashedFrames(4)), strict=True):
        alone = module_features(adapter, HashedFrames(4))
        assert found.modules == alone.modules
        for name in ("linear", "polar", "rows", "columns", "shape", "scale"):
            torch.testing.assert_close(getattr(found, name), getattr(alone, name))


def test_adapter_without_effect_among_many_is_refused() -> None:
    good = random_adapter(tiny_spec(), rank=2, seed=0)
    pairs = {n: replace(p, lora_b=torch.zeros_like(p.lora_b)) for n, p in good.pairs.items()}
    with pytest.raises(AdapterValueError, match="zero delta weight in every module"):
        features_of_many([good, replace(good, pairs=pairs)], HashedFrames(4))


def test_frames_of_adapters_hold_all_that_these_write_and_read() -> None:
    adapters = [random_adapter(tiny_spec(), rank=2, seed=seed) for seed in range(2)]
    frames = fit_zoo_frames(adapters, sketch=4)
    for adapter in adapters:
        for name, pair in adapter.pairs.items():
            a_RI, b_OR = (factor.double() for factor in pair.matrices())
            written, read = (frames.frames[f"{name}/{side}"] for side in ("out", "in"))
            delta = b_OR @ a_RI
            torch.testing.assert_close(written @ written.mT @ delta @ read @ read.mT, delta)


def test_frames_do_not_depend_on_how_strong_or_in_which_gauge_an_adapter_is() -> None:
    adapters = [random_adapter(tiny_spec(), rank=2, seed=seed) for seed in range(2)]
    strong = replace(
        adapters[0],
        pairs={
            n: p.with_matrices(2 * p.matrices()[0], 3 * p.matrices()[1])
            for n, p in adapters[0].pairs.items()
        },
    )
    one = fit_zoo_frames(adapters, sketch=2).frames
    two = fit_zoo_frames([strong, adapters[1]], sketch=2).frames
    for name, frame in one.items():
        torch.testing.assert_close(frame @ frame.mT, two[name] @ two[name].mT)


def test_generated_adapters_of_one_task_are_in_one_part() -> None:
    facts = tuple(
        json.dumps({"rank": 2, "steps": 1, "generated": {"seed": i}}) for i in range(COUNT)
    )
    parts = parts_of(replace(corpus_of(torch.randn(COUNT, 2, WIDTH)), facts=facts), share=0.3)
    assert set(parts) == {"train", "calibration", "test"}
    assert all(parts[i] == parts[i + 1] for i in range(0, COUNT, 2))
