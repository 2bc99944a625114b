import subprocess
import sys

import pytest
from cli_factories import lora_gen

import lora_gen as package


def test_version_is_the_package_version() -> None:
    assert lora_gen("--version").stdout == f"lora-gen {package.__version__}\n"


@pytest.mark.parametrize("verb", ["generate", "apply", "inspect", "doctor", "convert", "evaluate"])
def test_help_teaches_by_example(verb: str) -> None:
    result = lora_gen(verb, "--help")
    assert result.exit_code == 0
    assert result.stdout.count(f"lora-gen {verb}") >= 2, "the usage line and an example"


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["zoo", "--help"]])
def test_help_loads_no_model_library(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom lora_gen.cli.main import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'peft', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unknown_verb_is_refused_with_exit_code_2() -> None:
    result = lora_gen("generat")
    assert result.exit_code == 2
    assert "generate" in result.stderr
