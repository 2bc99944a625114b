"""What an entry accepts, and that JSON gives it back."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_factories import zoo_info

from lora_gen.errors import ZooError
from lora_gen.zoo.entry import EntryInfo, ZooEntry

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    descriptions=st.lists(texts, max_size=3),
    examples=st.lists(st.tuples(texts, texts), max_size=3),
    accuracy=st.none() | st.floats(0, 1),
    extra=st.dictionaries(texts, st.none() | st.integers() | texts | st.lists(texts)),
)
def test_entry_is_the_same_after_json(descriptions, examples, accuracy, extra):
    entry = ZooEntry(
        **{"task": "t", "descriptions": descriptions, "examples": examples, "extra": extra},
        **{"accuracy": accuracy, "id": "0" * 40, "base": "b", "rank": 4, "created": "now"},
    )
    assert ZooEntry(**json.loads(json.dumps(entry.to_dict()))) == entry


def test_info_takes_the_task_as_its_family():
    assert EntryInfo(task="upper").family == "upper"


def test_info_keeps_its_own_copy():
    extra = {"loss": [1.0]}
    info = zoo_info(extra=extra)
    extra["loss"].append(2.0)
    assert info.extra == {"loss": [1.0]}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"task": " "}, "`task` is empty"),
        ({"task": 3}, "`task` is 3; it must be text"),
        ({"split": "test"}, "`test` is not a split"),
        ({"descriptions": "one"}, "`descriptions` is one string"),
        ({"prompts": ["\ud800"]}, "`prompts` holds '.ud800', which is not valid Unicode"),
        ({"examples": [("a", "b", "c")]}, "`examples` holds .*; every example is one input and"),
        ({"seed": 2**63}, "`seed` is 9223372036854775808; it must be a whole number of 64 bits"),
        ({"steps": 1.5}, "`steps` is 1.5; it must be a whole number"),
        ({"accuracy": 93}, "`accuracy` is 93; it must be from 0 to 1"),
        ({"accuracy": math.nan}, "`accuracy` is nan; it must be from 0 to 1"),
        ({"accuracy": True}, "`accuracy` is True; it must be from 0 to 1"),
        ({"extra": {"loss": math.inf}}, "`extra` is not a JSON object"),
        ({"extra": {"path": object()}}, "`extra` is not a JSON object"),
        ({"extra": [1]}, "`extra` is not a JSON object"),
    ],
)
def test_info_is_refused_for_what_the_catalog_cannot_keep(fields, sentence):
    with pytest.raises(ZooError, match=sentence):
        EntryInfo(**({"task": "t"} | fields))
