"""Where an entry came from: kept with it, and no reason to refuse the same adapter again."""

import json

from typer.testing import CliRunner
from zoo_factories import zoo_adapter

from lora_gen.adapter.io import save_adapter
from lora_gen.cli.main import app
from lora_gen.files import sha256_file
from lora_gen.zoo.origin import origin_of
from lora_gen.zoo.store import Zoo

COMMIT = "ab" * 20


def add(zoo, folder):
    told = CliRunner().invoke(app, ["zoo", "add", str(zoo), str(folder), "--task", "t", "--json"])
    assert told.exit_code == 0, told.stderr
    return json.loads(told.stdout)


def test_added_entry_keeps_its_origin(tmp_path):
    record = {"generator": "g", "seed": 3}
    folder = save_adapter(zoo_adapter(), tmp_path / "mine", exact=True, provenance=record)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: x\n---\nwords\n")
    origin = add(tmp_path / "zoo", folder)["extra"]["origin"]
    assert (origin["source"], origin["license"], origin["made"]) == ("mine", "apache-2.0", record)
    weights = "adapter_model.safetensors"
    assert origin["files"][weights] == sha256_file(folder / weights)
    assert origin["checks"] == ["format", "limits", "values", "block-list"]
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert zoo.entries()[0].extra["origin"] == origin


def test_same_adapter_from_elsewhere_is_the_entry_that_is_there(tmp_path):
    first = add(tmp_path / "zoo", save_adapter(zoo_adapter(), tmp_path / "one", exact=True))
    second = add(tmp_path / "zoo", save_adapter(zoo_adapter(), tmp_path / "two", exact=True))
    assert (second["id"], second["extra"]) == (first["id"], first["extra"])


def test_origin_of_a_hub_snapshot_is_its_repository_and_commit(tmp_path):
    folder = tmp_path / "models--owner--name" / "snapshots" / COMMIT
    folder.parent.mkdir(parents=True)
    save_adapter(zoo_adapter(), folder, exact=True)
    assert origin_of(folder)["source"] == f"owner/name@{COMMIT}"


def test_origin_reads_only_what_adapters_consist_of(tmp_path):
    folder = save_adapter(zoo_adapter(), tmp_path / "mine", exact=True)
    (folder / "weights.bin").write_bytes(b"pickle")
    (folder / "README.md").write_text("---\nlicense: <script>alert(1)</script>\n---\n")
    origin = origin_of(folder)
    assert "weights.bin" not in origin["files"]
    assert "license" not in origin


def test_record_that_is_no_json_is_said_and_does_not_refuse_the_weights(tmp_path):
    folder = save_adapter(zoo_adapter(), tmp_path / "mine", exact=True)
    (folder / "lora_gen.json").write_text("{" * 40)
    assert add(tmp_path / "zoo", folder)["extra"]["origin"]["made"] == "not readable"
