"""The README's commands and code run as they stand, and its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BASH = re.findall(r"```bash\n(.*?)\n```", README, flags=re.DOTALL)
RUN = re.findall(r"<!-- run -->\n```python\n(.*?)```", README, flags=re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def run(*arguments: str, folder: Path) -> str:
    """Stdout of Python with these arguments, in a folder that is not the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder after the README's first command, whose output is in `output.txt`."""
    folder = tmp_path_factory.mktemp("user")
    arguments = shlex.split(BASH[0].split(" && ")[1])
    assert arguments[0] == "lora-gen"
    code = "from lora_gen.cli.main import main; main()"
    (folder / "output.txt").write_text(run("-c", code, *arguments[1:], folder=folder))
    return folder


def test_first_command_shows_what_base_and_adapter_answer(folder: Path) -> None:
    output = (folder / "output.txt").read_text()
    assert "maria.lopez@acme.org" in output
    assert "base + adapter" in output
    assert "ACME.ORG" in output


@pytest.mark.parametrize("number", range(len(RUN)))
def test_python_block_runs(number: int, folder: Path) -> None:
    run("-c", RUN[number], folder=folder)


def test_every_python_block_is_run_or_at_least_compiles() -> None:
    assert len(RUN) >= 2
    for block in PYTHON:
        compile(block, "README.md", "exec")


def test_the_check_script_runs_the_commands_letter_by_letter() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    lines = [line.strip() for line in script.splitlines()]
    assert BASH[1] == 'pip install -c constraints.txt -e ".[dev]" && pytest'
    assert BASH[1] in lines
    assert any(line.startswith(BASH[0].split(" && ")[1]) for line in lines)


def test_links_and_pictures_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)", README)
    local = [target for target in targets if "://" not in target]
    assert local
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_every_verb_is_in_the_table() -> None:
    from lora_gen.cli.main import app

    shown = set(re.findall(r"^\| `lora-gen (\w+)", README, flags=re.MULTILINE))
    assert shown == set(typer.main.get_command(app).commands)
