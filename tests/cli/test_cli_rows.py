from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_gen.cli.rows import read_examples, read_prompts
from lora_gen.errors import ConditionError


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_bytes(content.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one \n two, 2\n\n"),
        ("a.txt", "\ufeffone \r\n two, 2\r\n"),
        ("a.jsonl", '"one "\n{"input": " two, 2"}'),
        ("a.jsonl", '{"prompt": "one "}\n{"text": " two, 2"}\n'),
    ],
)
def test_prompts_are_read_as_they_stand(tmp_path: Path, name: str, content: str) -> None:
    assert read_prompts(write(tmp_path, name, content)) == ["one ", " two, 2"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'input,output\n"a, b",A\nc,C\n'),
        ("a.csv", '"a, b",A\r\nc,C\r\n'),
        ("a.tsv", "a, b\tA\nc\tC"),
        ("a.jsonl", '["a, b", "A"]\n{"input": "c", "output": "C", "note": 1}\n'),
    ],
)
def test_examples_are_read_as_pairs(tmp_path: Path, name: str, content: str) -> None:
    assert read_examples(write(tmp_path, name, content)) == [("a, b", "A"), ("c", "C")]


@given(
    st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)] * 2),
        min_size=1,
    )
)
def test_examples_survive_json_lines(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    import json

    folder = tmp_path_factory.mktemp("rows")
    path = write(folder, "a.jsonl", "\n".join(json.dumps(pair) for pair in pairs))
    assert read_examples(path) == pairs


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", "one\n\ntwo", "line 2 has no input. Every row must have a text"),
        ("a.txt", "", "line 1 has no input"),
        ("a.jsonl", "one", "line 1 is not JSON. Write one JSON value on each line."),
        ("a.jsonl", '"a"\n3', "line 2 has no input"),
        ("a.jsonl", '{"question": "a"}', "line 1 has no input"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.json", "[]", "ends in `.json`, but prompts are read from .txt or .jsonl"),
        ("a.txt", "a" * 1_000_001, "has 1,000,001 bytes, but at most 1,000,000 are allowed"),
    ],
)
def test_prompts_refuse_a_bad_file(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    with pytest.raises(ConditionError, match=sentence):
        read_prompts(write(tmp_path, name, content))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "a,b\nc", "line 2 has 1 columns, but must be a pair of input and output"),
        ("a.csv", "a, b,c", "line 1 has 3 columns"),
        ("a.csv", "a,b\n\nc,d", "line 2 has 0 columns"),
        ("a.csv", "a,", "line 1 has no output"),
        ("a.csv", "input,output\n", "has no rows. Write at least one"),
        ("a.jsonl", '{"input": "a"}', "line 1 has dict, but must be a pair"),
        ("a.jsonl", '["a", 3]', "line 1 has no output"),
        ("a.txt", "a b", "ends in `.txt`, but examples are read from .csv, .tsv or .jsonl"),
    ],
)
def test_examples_refuse_a_bad_file(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    with pytest.raises(ConditionError, match=sentence):
        read_examples(write(tmp_path, name, content))


def test_rows_refuse_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConditionError, match=r"is not UTF-8 text\. Save it as UTF-8\."):
        read_prompts(tmp_path / "a.txt")
    with pytest.raises(ConditionError, match=r"cannot be read \(.*\)\. Check the name"):
        read_prompts(tmp_path / "none.txt")
