"""One flipped bit anywhere in a zoo is found, or changes nothing that is served."""

import random
import shutil

import pytest
from typer.testing import CliRunner
from zoo_factories import fill_zoo

from lora_gen.cli.main import app
from lora_gen.errors import ZooError
from lora_gen.zoo.store import Zoo


def flip(path, position, bit):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def served(folder):
    with Zoo.open(folder, read_only=True) as zoo:
        guarded = set(zoo.guard.blocked()), set(zoo.guard.quarantined())
        return [(entry.to_dict(), str(zoo.load(entry.id))) for entry in zoo.entries()], guarded


def found_healthy(folder):
    try:
        with Zoo.open(folder, read_only=True) as zoo:
            return zoo.verify().ok
    except ZooError:
        return False


def whole_zoo(folder):
    ids = fill_zoo(folder, 2)
    with Zoo.open(folder) as zoo:
        zoo.guard.block("a" * 40, "seen elsewhere")
        zoo.guard.quarantine(ids[1], "suspect")
        zoo.checkpoint()
    return ids


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
)
def test_flipped_bit_in_an_adapter_is_always_found(tmp_path, name):
    (entry_id, _) = whole_zoo(tmp_path / "zoo")
    file = tmp_path / "zoo" / "adapters" / entry_id[:2] / entry_id / name
    content, rng = file.read_bytes(), random.Random(0)
    for position in rng.sample(range(len(content)), 25):
        flip(file, position, rng.randrange(8))
        assert not found_healthy(tmp_path / "zoo"), position
        file.write_bytes(content)
    assert found_healthy(tmp_path / "zoo")


def test_flipped_bit_in_the_catalog_is_found_or_changes_nothing_served(tmp_path):
    whole_zoo(tmp_path / "zoo")
    before, rng, found = served(tmp_path / "zoo"), random.Random(0), 0
    size = (tmp_path / "zoo" / "catalog.sqlite").stat().st_size
    used = [i for i, b in enumerate((tmp_path / "zoo" / "catalog.sqlite").read_bytes()) if b]
    for number, position in enumerate(rng.sample(used, 60) + rng.sample(range(size), 20)):
        folder = tmp_path / f"copy{number}"
        shutil.copytree(tmp_path / "zoo", folder)
        flip(folder / "catalog.sqlite", position, rng.randrange(8))
        if found_healthy(folder):
            assert served(folder) == before, position
        else:
            found += 1
    assert found > 20


def test_doctor_names_what_is_damaged_and_what_to_do(tmp_path):
    ids = whole_zoo(tmp_path / "zoo")
    flip(tmp_path / "zoo" / "adapters" / ids[0][:2] / ids[0] / "manifest.json", 40, 0)
    result = CliRunner().invoke(app, ["doctor", "--store", str(tmp_path / "zoo")])
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0].startswith(f"damaged {ids[0]}: `manifest.json` in `")
    assert lines[0].endswith(" To do: add the same adapter again, which mends it, or forget it.")
    assert lines[1] == f"quarantined {ids[1]}: suspect. To do: release or forget it."
    assert lines[2] == "2 entries checked, DAMAGED."
