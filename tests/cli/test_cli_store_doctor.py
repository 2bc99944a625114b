"""`lora-gen doctor --store` and the verbs of an operator."""

import json
import shutil

import pytest
from typer.testing import CliRunner
from zoo_factories import fill_zoo, zoo_adapter

from lora_gen.adapter.io import save_adapter
from lora_gen.cli.main import app
from lora_gen.files import sha256_file
from lora_gen.zoo.store import Zoo


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, [str(part) for part in arguments], input=stdin)


def test_doctor_finds_a_store_healthy(tmp_path):
    fill_zoo(tmp_path / "zoo", 2)
    result = run("doctor", "--store", tmp_path / "zoo")
    assert (result.exit_code, result.stdout) == (0, "2 entries checked, all whole.\n")


def test_doctor_sweeps_orphans_and_nothing_else(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 2)
    adapters = tmp_path / "zoo" / "adapters"
    orphan = "ab" * 20
    (adapters / "ab").mkdir(exist_ok=True)
    shutil.copytree(adapters / ids[0][:2] / ids[0], adapters / "ab" / orphan)
    (adapters / "notes.txt").write_text("mine")
    listed = json.loads(run("doctor", "--store", tmp_path / "zoo", "--json").stdout)
    assert listed["orphaned"] == ["notes.txt", f"ab/{orphan}"]
    swept = json.loads(run("doctor", "--store", tmp_path / "zoo", "--sweep", "--json").stdout)
    assert swept["swept"] == [f"removed `ab/{orphan}`, which no entry owned"]
    assert (swept["ok"], swept["orphaned"]) == (True, ["notes.txt"])


def test_doctor_reports_a_catalog_that_does_not_open(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    (tmp_path / "zoo" / "catalog.sqlite").write_bytes(b"")
    result = run("doctor", "--store", tmp_path / "zoo", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"]) == (1, False)
    assert report["findings"][0]["do"].startswith("restore the catalog from a copy")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["doctor"], "`doctor` checks one adapter or one zoo."),
        (["doctor", "x", "--store", "y"], "`doctor` checks one adapter or one zoo."),
        (["doctor", "--store", "{zoo}/no"], "is not a zoo: it has no `catalog.sqlite`"),
        (["zoo", "block", "{zoo}", "--remove"], "`--remove` needs the hash"),
        (["zoo", "quarantine", "{zoo}", "zz"], "`zz` begins no id in"),
    ],
)
def test_operator_verbs_refuse_in_one_sentence(tmp_path, arguments, sentence):
    fill_zoo(tmp_path / "zoo", 1)
    result = run(*(part.format(zoo=tmp_path / "zoo") for part in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


def test_forget_blocks_and_names_who_learned(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 2)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    manifest = tmp_path / "runs" / "one" / "manifest.json"
    manifest.write_text(json.dumps({"parents": [f"zoo:{ids[0]}"]}))
    options = ["--generators", tmp_path / "runs", "--block", "--yes", "--json"]
    said = json.loads(run("zoo", "forget", tmp_path / "zoo", ids[0][:9], *options).stdout)
    learned = {str(tmp_path / "runs" / "one"): "learned from it"}
    assert said == {"forgotten": ids[0], "files_gone": True, "blocked": True, "learned": learned}
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert (zoo.ids(), list(zoo.guard.blocked())) == ([ids[1]], [ids[0]])


def test_forget_asks_first(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 1)
    assert run("zoo", "forget", tmp_path / "zoo", ids[0], stdin="n\n").exit_code == 1
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert zoo.ids() == ids


def test_quarantine_and_release(tmp_path):
    (entry_id,) = fill_zoo(tmp_path / "zoo", 1)
    command = ["zoo", "quarantine", tmp_path / "zoo"]
    held = [{"id": entry_id, "reason": "odd"}]
    assert json.loads(run(*command, entry_id, "--reason", "odd", "--json").stdout) == held
    assert json.loads(run(*command, "--json").stdout) == held
    assert json.loads(run(*command, entry_id, "--release", "--json").stdout) == []


def test_zoo_add_refuses_a_weight_file_on_the_block_list(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    folder = save_adapter(zoo_adapter(5), tmp_path / "adapter", exact=True)
    value = sha256_file(folder / "adapter_model.safetensors")
    assert run("zoo", "block", tmp_path / "zoo", value, "--reason", "stolen").exit_code == 0
    result = run("zoo", "add", tmp_path / "zoo", folder, "--task", "t")
    assert result.exit_code == 2
    assert f"`{value}` is on the block-list of" in result.stderr
