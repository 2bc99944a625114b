"""Container and Space: what their files say must fit the app, the extras and the tested set."""

import re
import shlex
import tomllib
from typing import Any

import pytest
from app_factories import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from app.__main__ import config_of, parser
from app.settings import AppConfig

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def _lines(instruction: str) -> list[str]:
    found = re.findall(rf"^{instruction}\s+(.*)$", DOCKERFILE, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in found]


def _project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"])


def _front_matter() -> dict[str, str]:
    text = (ROOT / "app" / "README.md").read_text("utf-8")
    block = text.split("---\n")[1]
    return dict(line.split(": ", 1) for line in block.strip().splitlines())


def test_container_has_a_python_that_the_package_allows() -> None:
    (version,) = re.findall(r"^FROM python:(\d+\.\d+)", DOCKERFILE, flags=re.MULTILINE)
    assert SpecifierSet(_project()["requires-python"]).contains(version)


def test_container_installs_known_extras_from_the_tested_set() -> None:
    (install,) = (line for line in _lines("RUN") if "pip install" in line)
    assert "-c constraints.txt" in install
    (extras,) = re.findall(r'"\.\[(.*)\]"', install)
    assert set(extras.split(",")) <= set(_project()["optional-dependencies"])


def test_container_does_not_run_as_root_and_needs_a_password() -> None:
    assert _lines("USER") == ["app"]
    assert "--auth visitor" in _lines("CMD")[0]


def test_container_starts_the_app_as_its_command_line_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LORA_GEN_APP_PASSWORD", "secret")
    command = re.sub(r"\$\{SPACE_HOST:\+(.*?)\}", r"\1", _lines("CMD")[0])
    words = shlex.split(command.split("exec python -m app ")[1].removesuffix('"]'))
    config = config_of(parser().parse_args(words))
    assert (config.host, config.embed) == ("0.0.0.0", True)


def test_container_and_space_expose_the_port_of_the_app() -> None:
    port = str(AppConfig().port)
    assert _lines("EXPOSE") == [port]
    assert _front_matter()["app_port"] == port


def test_space_has_the_front_matter_that_the_hub_reads() -> None:
    found = _front_matter()
    assert {"title", "emoji", "sdk", "license"} <= set(found)
    assert found["sdk"] == "docker"
    assert found["license"] == _project()["license"].lower()
    assert {found["colorFrom"], found["colorTo"]} <= COLORS


@pytest.mark.parametrize("extra", ["app", "demo", "mcp", "browser"])
def test_tested_set_pins_what_an_extra_asks_for(extra: str) -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = {line.split("==")[0].lower(): line.split("==")[1] for line in lines if "==" in line}
    for line in _project()["optional-dependencies"][extra]:
        asked = Requirement(line)
        pinned = pins.get(asked.name.lower().replace("_", "-")) or pins[asked.name.lower()]
        assert asked.specifier.contains(pinned), line
