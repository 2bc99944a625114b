"""`lora-gen zoo`: what it prints, for people and for programs, and how it refuses."""

import json

import pytest
from typer.testing import CliRunner
from zoo_factories import fill_zoo, zoo_adapter

from lora_gen.adapter.io import save_adapter
from lora_gen.cli.zoo import zoo_app
from lora_gen.zoo.store import Zoo


def run(*arguments, stdin=None):
    return CliRunner().invoke(zoo_app, [str(part) for part in arguments], input=stdin)


@pytest.fixture
def adapter_folder(tmp_path):
    return save_adapter(zoo_adapter(5), tmp_path / "adapter", exact=True)


def test_zoo_add_makes_a_zoo_and_prints_the_entry(tmp_path, adapter_folder):
    info = tmp_path / "info.json"
    info.write_text(json.dumps({"examples": [["a", "A"]], "accuracy": 0.5, "seed": 7}))
    options = ["--task", "upper", "--description", "Shout.", "--family", "case", "--info", info]
    result = run("add", tmp_path / "zoo", adapter_folder, *options, "--json")
    entry = json.loads(result.stdout)
    assert result.exit_code == 0
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        (found,) = zoo.entries()
    assert entry == found.to_dict() | {"examples": [["a", "A"]], "family": "case", "seed": 7}
    assert found.descriptions == ("Shout.",)


def test_zoo_add_says_what_it_added(tmp_path, adapter_folder):
    result = run("add", tmp_path / "zoo", adapter_folder, "--task", "upper")
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert f"added {zoo.ids()[0]} (upper, seen)" in result.stdout.replace("\n", " ")


def test_zoo_list_prints_every_entry_as_json(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    listed = json.loads(run("list", tmp_path / "zoo", "--json").stdout)
    assert [entry["id"] for entry in listed] == ids
    narrowed = json.loads(run("list", tmp_path / "zoo", "--task", "task1", "--json").stdout)
    assert [entry["id"] for entry in narrowed] == [ids[1]]


def test_zoo_list_prints_a_table(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    result = run("list", tmp_path / "zoo")
    assert result.exit_code == 0
    for number, entry_id in enumerate(ids):
        assert entry_id[:6] in result.stdout
        assert f"task{number}" in result.stdout


def test_zoo_show_takes_the_first_digits_of_an_id(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    shown = json.loads(run("show", tmp_path / "zoo", ids[1][:10], "--json").stdout)
    assert (shown["id"], shown["task"], shown["extra"]) == (ids[1], "task1", {"loss": [0.5, None]})
    assert shown["path"].endswith(f"adapters/{ids[1][:2]}/{ids[1]}")
    assert "abc -> ABC" in run("show", tmp_path / "zoo", ids[1]).stdout


def test_zoo_verify_finds_damage_with_exit_code_1(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    assert run("verify", tmp_path / "zoo").exit_code == 0
    file = tmp_path / "zoo" / "adapters" / ids[0][:2] / ids[0] / "adapter_config.json"
    file.write_bytes(file.read_bytes() + b" ")
    result = run("verify", tmp_path / "zoo", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["ok"], report["checked"], report["missing"]) == (False, 3, [])
    assert [finding["id"] for finding in report["damaged"]] == [ids[0]]
    assert "DAMAGED" in run("verify", tmp_path / "zoo").stdout


def test_zoo_remove_asks_first(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    assert run("remove", tmp_path / "zoo", ids[0], stdin="n\n").exit_code == 1
    result = run("remove", tmp_path / "zoo", ids[1], "--yes", "--json")
    assert json.loads(result.stdout) == {"removed": ids[1]}
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert zoo.ids() == [ids[0], ids[2]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list", "{zoo}/nowhere"], "`{zoo}/nowhere` is not a zoo: it has no `catalog.sqlite`"),
        (["list", "{zoo}", "--split", "test"], "`test` is not a split. Use one of seen,"),
        (["show", "{zoo}", "zzz"], "`zzz` begins no id in `{zoo}`"),
        (["remove", "{zoo}", "zzz", "--yes"], "`zzz` begins no id in `{zoo}`"),
        (["add", "{zoo}", "{zoo}/nowhere", "--task", "t"], "`{zoo}/nowhere`"),
        (["add", "{zoo}", "{zoo}", "--task", "t", "--split", "test"], "`test` is not a split"),
        (["add", "{zoo}", "{zoo}", "--task", "t", "--info", "{info}"], "has the key `steeps`"),
    ],
)
def test_zoo_refuses_bad_input_with_one_sentence_and_exit_code_2(tmp_path, arguments, sentence):
    fill_zoo(tmp_path / "zoo", 1)
    (tmp_path / "info.json").write_text('{"steeps": 3}')
    places = {"zoo": tmp_path / "zoo", "info": tmp_path / "info.json"}
    result = run(*(part.format(**places) for part in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sentence.format(**places) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_zoo_reports_bad_input_as_json_when_asked(tmp_path):
    result = run("list", tmp_path, "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (2, "STORE")
    assert "is not a zoo" in error["message"]


def test_zoo_table_shows_control_characters_as_escapes(tmp_path, adapter_folder):
    name = "evil\x1b[31m[red]"
    run("add", tmp_path / "zoo", adapter_folder, "--task", name)
    result = run(
        "show",
        tmp_path / "zoo",
        json.loads(run("list", tmp_path / "zoo", "--json").stdout)[0]["id"],
    )
    assert "\x1b" not in result.stdout
    assert "[red]" in result.stdout
