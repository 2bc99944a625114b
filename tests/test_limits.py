import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from lora_gen.errors import ConfigError
from lora_gen.limits import Limits, limits_from, read_limits

ROOT = Path(__file__).parent.parent


def test_limits_come_back_from_their_own_table(tmp_path):
    (tmp_path / "limits.json").write_text(json.dumps(asdict(Limits(rank=8))))
    assert read_limits(tmp_path / "limits.json") == Limits(rank=8)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"ranks": 8}, "`ranks` is no limit. Limits are file_bytes, header_bytes"),
        ({"rank": 0}, "limit `rank` is `0`, and must be a whole number above 0"),
        ({"rank": 1.5}, "limit `rank` is `1.5`, and must be a whole number above 0"),
        ({"rank": True}, "limit `rank` is `True`"),
        ({"alpha": float("nan")}, "limit `alpha` is `nan`, and must be a number above 0"),
        ({"alpha": "8"}, "limit `alpha` is `8`, and must be a number above 0"),
    ],
)
def test_limits_refuse_what_is_no_limit(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        limits_from(values)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 20_000])
def test_limits_refuse_a_file_that_is_no_object(tmp_path, text):
    (tmp_path / "limits.json").write_text(text)
    with pytest.raises(ConfigError, match=r"limits\.json"):
        read_limits(tmp_path / "limits.json")


def test_operator_sets_the_default_by_the_environment(tmp_path):
    (tmp_path / "limits.json").write_text('{"rank": 4}')
    code = "from lora_gen.limits import DEFAULT_LIMITS; print(DEFAULT_LIMITS.rank)"
    environment = {"LORA_GEN_LIMITS": str(tmp_path / "limits.json"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "4\n"


def test_documented_limits_are_the_table():
    lines = (ROOT / "docs" / "limits.md").read_text("utf-8").splitlines()
    rows = [line.split("|")[1:3] for line in lines if line.startswith("| `")]
    documented = {name.strip(" `"): value.strip() for name, value in rows}
    assert documented == {name: str(value) for name, value in asdict(Limits()).items()}
