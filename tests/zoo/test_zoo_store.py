"""Laws of adding, reading and removing."""

import re
from dataclasses import replace

import pytest
import torch
from zoo_factories import fill_zoo, zoo_adapter, zoo_info

from lora_gen.errors import AdapterValueError, ZooError
from lora_gen.zoo.content import adapter_id
from lora_gen.zoo.store import Zoo


def delta(adapter, name):
    lora_a, lora_b = adapter.pairs[name].matrices()
    return adapter.pairs[name].scaling * lora_b.float() @ lora_a.float()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_zoo_gives_back_the_rounded_adapter(tmp_path, dtype):
    adapter = zoo_adapter(scaling=2.0)
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        entry = zoo.add(adapter, zoo_info(), dtype=dtype)
        loaded = zoo.load(entry.id)
    tolerance = {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-6}[dtype]
    for name, pair in loaded.pairs.items():
        assert pair.lora_a.dtype == getattr(torch, dtype)
        torch.testing.assert_close(
            delta(loaded, name), delta(adapter, name), rtol=tolerance, atol=10 * tolerance
        )


def test_zoo_gives_back_every_field(tmp_path):
    info = zoo_info(family="case", split="unseen_composition")
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        entry = zoo.add(zoo_adapter(), info)
        assert zoo.get(entry.id) == entry
        assert entry.info() == info
        assert (entry.base, entry.rank) == ("tiny_lm", 2)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", entry.created)


def test_zoo_survives_closing_and_opening(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    with Zoo.open(tmp_path / "zoo") as zoo:
        assert zoo.ids() == ids
        assert [zoo.load(entry_id).base for entry_id in ids] == ["tiny_lm"] * 3
        assert zoo.verify().ok


def test_adapter_id_depends_on_weights_only(tmp_path):
    adapter = zoo_adapter()
    renamed = replace(adapter, base="other", base_revision="abc", task_type=None)
    name, pair = next(iter(adapter.pairs.items()))
    changed = pair.lora_a.clone()
    changed[0, 0] += 1e-3
    other = replace(adapter, pairs={**adapter.pairs, name: replace(pair, lora_a=changed)})
    assert adapter_id(renamed) == adapter_id(adapter)
    assert adapter_id(other) != adapter_id(adapter)
    assert adapter_id(zoo_adapter(rank=3)) != adapter_id(adapter)


def test_adapter_id_is_frozen():
    pairs = {
        name: replace(pair, lora_a=torch.ones(1, 4), lora_b=torch.ones(4, 1))
        for name, pair in zoo_adapter().pairs.items()
    }
    frozen = "99cd51feb9bc90b000c19829c223c4c8507e0499"
    assert adapter_id(replace(zoo_adapter(), pairs=pairs)) == frozen


def test_adapter_id_folds_scaling():
    scaled = zoo_adapter(scaling=2.0)
    folded = {name: pair.folded() for name, pair in scaled.pairs.items()}
    assert adapter_id(scaled) == adapter_id(replace(scaled, pairs=folded))
    assert adapter_id(scaled) != adapter_id(zoo_adapter(scaling=1.0))


def test_zoo_folder_is_three_files_at_its_content_address(tmp_path):
    (entry_id,) = fill_zoo(tmp_path / "zoo", 1)
    folder = tmp_path / "zoo" / "adapters" / entry_id[:2] / entry_id
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]


def test_zoo_pads_ranks_when_not_exact(tmp_path):
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        kept = zoo.add(zoo_adapter(0), zoo_info("a"))
        padded = zoo.add(zoo_adapter(1), zoo_info("b"), exact=False)
        assert (kept.rank, padded.rank) == (2, 8)
        assert zoo.verify().ok


def test_adding_again_is_the_same_entry(tmp_path):
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        first = zoo.add(zoo_adapter(), zoo_info())
        generation = zoo.generation()
        assert zoo.add_many([(zoo_adapter(), zoo_info())] * 2) == [first, first]
        assert len(zoo) == 1
        assert zoo.generation() == generation


def test_adding_again_with_other_info_is_refused(tmp_path):
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        zoo.add(zoo_adapter(), zoo_info())
        with pytest.raises(ZooError, match=r"already, as task `upper` for `tiny_lm` with other"):
            zoo.add(zoo_adapter(), zoo_info("lower"))


def test_family_in_two_splits_is_refused(tmp_path):
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        zoo.add(zoo_adapter(0), zoo_info("a", family="case"))
        held_out = zoo_info("b", family="case", split="unseen_primitive")
        with pytest.raises(ZooError, match="`case` is in the splits `seen` and `unseen_primitive`"):
            zoo.add(zoo_adapter(1), held_out)
        assert (len(zoo), zoo.verify().orphaned) == (1, ())


def test_failed_batch_leaves_no_folder(tmp_path, monkeypatch):
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        kept = zoo.add(zoo_adapter(9), zoo_info("kept"))
        monkeypatch.setattr(zoo._catalog, "put", lambda entries: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            zoo.add_many([(zoo_adapter(seed), zoo_info(f"t{seed}")) for seed in range(3)])
        report = zoo.verify()
        assert (zoo.ids(), report.ok, report.orphaned) == ([kept.id], True, ())


def test_add_many_commits_once_a_batch(tmp_path):
    items = [(zoo_adapter(seed), zoo_info(f"t{seed}")) for seed in range(70)]
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        added = zoo.add_many(iter(items))
        assert [entry.task for entry in added] == [info.task for _, info in items]
        assert zoo.generation() == 2


def test_entries_are_narrowed_by_split_base_and_task(tmp_path):
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        zoo.add(zoo_adapter(0), zoo_info("a"))
        zoo.add(zoo_adapter(1), zoo_info("b", split="unseen_argument"))
        zoo.add(replace(zoo_adapter(2), base="gpt2"), zoo_info("a"))
        assert [entry.task for entry in zoo.entries()] == ["a", "b", "a"]
        assert [entry.task for entry in zoo.entries(split="unseen_argument")] == ["b"]
        assert [entry.base for entry in zoo.entries(task="a")] == ["tiny_lm", "gpt2"]
        assert len(zoo.ids(task="a", base="gpt2")) == 1


def test_removed_entry_is_gone_and_can_return(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo.remove(ids[1])
        assert zoo.ids() == [ids[0], ids[2]]
        assert not zoo.folders.has(ids[1])
        with pytest.raises(ZooError, match=rf"`{ids[1]}` is not in"):
            zoo.load(ids[1])
        again = zoo.add(zoo_adapter(1), zoo_info("renamed"))
        assert (again.id, zoo.get(ids[1]).task, zoo.verify().ok) == (ids[1], "renamed", True)


def test_values_too_large_for_the_dtype_are_refused(tmp_path):
    with (
        Zoo.open(tmp_path / "zoo", create=True) as zoo,
        pytest.raises(AdapterValueError, match=r"up_proj\.lora_b` overflows torch\.float16"),
    ):
        zoo.add(zoo_adapter(scaling=1e6), zoo_info())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"base": None}, "`adapter` names no base model"),
        ({"pairs": {}}, "`adapter` has no modules"),
    ],
)
def test_adapter_without_meaning_is_refused(tmp_path, change, sentence):
    with Zoo.open(tmp_path / "zoo", create=True) as zoo, pytest.raises(ZooError, match=sentence):
        zoo.add(replace(zoo_adapter(), **change), zoo_info())


def test_unknown_dtype_is_refused(tmp_path):
    with (
        Zoo.open(tmp_path / "zoo", create=True) as zoo,
        pytest.raises(ZooError, match="`dtype` is `int8`; a zoo keeps float16, bfloat16, float32"),
    ):
        zoo.add(zoo_adapter(), zoo_info(), dtype="int8")


def test_find_id_takes_the_first_digits(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert [zoo.find_id(entry_id[:12]) for entry_id in ids] == ids
        with pytest.raises(ZooError, match="`zzz` begins no id"):
            zoo.find_id("zzz")
        with pytest.raises(ZooError, match="`` begins several ids"):
            zoo.find_id("")


def test_path_is_never_made_from_a_foreign_id(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    with (
        Zoo.open(tmp_path / "zoo", read_only=True) as zoo,
        pytest.raises(ZooError, match=r"`\.\./\.\./etc` is not an id"),
    ):
        zoo.folders.path_of("../../etc")
