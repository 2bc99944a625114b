from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generator_factories import byte_base

from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.conditioning.examples import GROUP, ExampleReader, example_width
from lora_gen.errors import ConditionError

PAIRS = [(f"in {i}", f"out {i}") for i in range(6)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ExampleReader:
    folder: Path = byte_base(tmp_path_factory.mktemp("base"))
    return ExampleReader(*load_causal_lm(folder))


def test_states_are_those_of_the_base_where_answers_begin_and_end(reader: ExampleReader) -> None:
    states, mask = reader.encode([PAIRS[:2]])
    assert mask.tolist() == [[True, True]]
    chat = reader.chat
    before, after = chat.question(PAIRS[1][0], PAIRS[:1]), chat.shots(PAIRS[:2])[0]
    for ids, part in ((before, 0), (after, 1)):
        out = reader.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        wanted = torch.cat([out.hidden_states[layer][0, -1] for layer in reader.layers])
        half = states.shape[-1] // 2
        found = states[0, 1, part * half : (part + 1) * half]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_width_is_that_of_the_base(reader: ExampleReader) -> None:
    hidden = reader.model.config.hidden_size
    assert reader.encode([PAIRS])[0].shape == (1, 6, example_width(hidden))


def test_states_of_a_row_do_not_depend_on_other_rows(reader: ExampleReader) -> None:
    alone, _ = reader.encode([PAIRS[:3]])
    together, mask = reader.encode([PAIRS, PAIRS[:3], []])
    torch.testing.assert_close(together[1, :3], alone[0], atol=1e-5, rtol=1e-4)
    assert mask.sum(1).tolist() == [6, 3, 0]


def test_more_pairs_than_a_group_are_read_in_a_new_context(reader: ExampleReader) -> None:
    states, _ = reader.encode([PAIRS])
    rest, _ = reader.encode([PAIRS[GROUP:]])
    torch.testing.assert_close(states[0, GROUP:], rest[0], atol=1e-5, rtol=1e-4)


def test_no_examples_are_all_masked(reader: ExampleReader) -> None:
    states, mask = reader.encode([[], []])
    assert states.shape[0] == 2
    assert not mask.any()


def test_long_pairs_share_no_context_that_they_do_not_fit(reader: ExampleReader) -> None:
    long = [("x" * 90, "y" * 60), ("z" * 90, "w" * 60)]
    _, mask = reader.encode([long])
    assert mask.tolist() == [[True, True]]


def test_pair_longer_than_the_context_is_refused(reader: ExampleReader) -> None:
    reader = ExampleReader(reader.model, reader.chat)
    reader.limit = 20
    with pytest.raises(ConditionError, match="has a pair of 33 tokens, but the base reads 20"):
        reader.encode([[("a" * 15, "b" * 15)]])
