from __future__ import annotations

import pytest

from lora_gen.errors import AdapterConfigError, ZooError
from lora_gen.strict_json import Limits, printable, read_json


def written(tmp_path, data):
    path = tmp_path / "config.json"
    path.write_bytes(data)
    return path


def test_json_reads_an_object(tmp_path):
    path = written(tmp_path, '{"a": [1, 2.5, null, "é"]}'.encode())
    assert read_json(path) == {"a": [1, 2.5, None, "é"]}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        (b"not json", "not valid UTF-8 JSON"),
        (b"[1]", "holds a JSON list, and must hold an object"),
        (b'{"a": 1, "a": 2}', "the key `a` is listed twice"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds 1e999"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not valid UTF-8 JSON"),
        (b"[" * 100_000, "nested deeper than 32 levels"),
        (b'{"a": ' + b"[" * 50 + b"]" * 50 + b"}", "nested deeper than 32 levels"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', "larger than 1000000 bytes"),
    ],
)
def test_json_refuses_hostile_text(tmp_path, data, sentence):
    with pytest.raises(AdapterConfigError, match=sentence):
        read_json(written(tmp_path, data))


def test_json_raises_the_error_of_its_caller(tmp_path):
    with pytest.raises(ZooError, match=r"`absent.json` cannot be read"):
        read_json(tmp_path / "absent.json", error=ZooError)


def test_json_allows_nesting_up_to_the_limit(tmp_path):
    path = written(tmp_path, b'{"a": {"b": {"c": 1}}}')
    assert read_json(path, limits=Limits(nesting=3))
    with pytest.raises(AdapterConfigError, match="nested deeper than 2 levels"):
        read_json(path, limits=Limits(nesting=2))


def test_printable_escapes_and_cuts():
    assert printable("a\tb\u202e") == r"`a\tb\u202e`"
    assert len(printable("x" * 500)) == 82
