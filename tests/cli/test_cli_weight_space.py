import json
from pathlib import Path

import pytest
from cli_factories import lora_gen, tiny_adapter, tiny_base

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import add, cosine, norm, truncate
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.weight_space.merge import merge_adapters
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    """An adapter, saved as `a`."""
    made = tiny_adapter(tiny_base(tmp_path / "base"), rank=4)
    save_adapter(made, tmp_path / "a", exact=True)
    return made


def test_compress_to_a_rank_says_the_error(adapter: Adapter, tmp_path: Path) -> None:
    done = lora_gen("compress", tmp_path / "a", "--rank", 2, "--out", tmp_path / "s", "--json")
    record, small = json.loads(done.stdout), load_adapter(tmp_path / "s")
    apart = norm(add([small, adapter], [1.0, -1.0])) / norm(adapter)
    assert record["relative_error"] == pytest.approx(apart, rel=1e-4)
    assert cosine(small, truncate(adapter, 2)) == pytest.approx(1)


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_become_an_adapter_again(bits: int, adapter: Adapter, tmp_path: Path) -> None:
    codes = tmp_path / "codes.safetensors"
    done = lora_gen("compress", tmp_path / "a", "--bits", bits, "--out", codes)
    assert done.exit_code == 0, done.stderr
    assert lora_gen("compress", codes, "--out", tmp_path / "back").exit_code == 0
    assert cosine(load_adapter(tmp_path / "back"), adapter) > (0.98 if bits == 4 else 0.9999)


def test_compress_refuses_when_nothing_is_asked(adapter: Adapter, tmp_path: Path) -> None:
    done = lora_gen("compress", tmp_path / "a", "--out", tmp_path / "s")
    assert done.exit_code == 2
    assert "There is nothing to do. Pass `--rank`, `--energy` or `--bits`." in done.stderr


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A zoo of two tasks, each said to shout and not to, and a merge of two of them."""
    base = tiny_base(tmp_path / "base")
    made = {f"task-{i}": tiny_adapter(base, seed=i) for i in range(4)}
    made["both"] = merge_adapters([made["task-0"], made["task-1"]]).adapter
    with Zoo.open(tmp_path / "zoo", create=True) as opened:
        for i, (name, one) in enumerate(made.items()):
            text = "do it" + (" in CAPITALS" if i < 2 else "")
            opened.add(one, EntryInfo(task=name, descriptions=(text,)), dtype="float32")
    return tmp_path / "zoo"


def test_edit_moves_towards_the_adapters_that_say_it(zoo: Path, tmp_path: Path) -> None:
    start = tiny_adapter(tmp_path / "base", seed=9)
    save_adapter(start, tmp_path / "start", exact=True)
    options = ("--zoo", zoo, "--toward", "capitals", "--out", tmp_path / "e")
    done = lora_gen("edit", tmp_path / "start", *options, "--json")
    assert json.loads(done.stdout)["entries_with_it"] == 2
    moved = add([load_adapter(tmp_path / "e"), start], [1.0, -1.0])
    assert cosine(moved, tiny_adapter(tmp_path / "base", seed=0)) > 0.3


def test_edit_refuses_words_that_no_description_says(zoo: Path, tmp_path: Path) -> None:
    save_adapter(tiny_adapter(tmp_path / "base"), tmp_path / "start", exact=True)
    done = lora_gen("edit", tmp_path / "start", "--zoo", zoo, "--toward", "shy")
    assert done.exit_code == 2
    assert "`shy` is in the descriptions of 0 of 5 entries" in done.stderr


def test_zoo_tree_shows_what_was_merged_from_what(zoo: Path, tmp_path: Path) -> None:
    done = lora_gen("zoo", "tree", zoo, "--out", tmp_path / "tree.svg", "--json")
    found = json.loads(done.stdout)
    with Zoo.open(zoo, read_only=True) as opened:
        names = {entry.id: entry.task for entry in opened.entries()}
    merged = next(one for one in found if names[one["child"]] == "both")
    assert {names[parent] for parent in merged["parents"]} == {"task-0", "task-1"}
    assert "merged" in (tmp_path / "tree.svg").read_text()
