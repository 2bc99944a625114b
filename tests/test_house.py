"""The house rules of CONTRIBUTING.md, kept by reading the code: floors, doors, sizes, names."""

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main
from house_surface import PUBLIC, VERBS

import lora_gen

ROOT = Path(__file__).parent.parent
FOLDERS = ("lora_gen", "training", "app", "recipes")

FLOORS = (
    (
        "lora_gen.closing",
        "lora_gen.durable_folders",
        "lora_gen.errors",
        "lora_gen.files",
        "lora_gen.jobs",
        "lora_gen.limits",
        "lora_gen.memory",
        "lora_gen.safetensors_header",
        "lora_gen.safetensors_stream",
        "lora_gen.strict_json",
    ),
    ("lora_gen.adapter", "lora_gen.assets"),
    ("lora_gen.codec",),
    ("lora_gen.conditioning", "lora_gen.zoo"),
    ("lora_gen.models",),
    ("lora_gen.pipeline_checks", "lora_gen.pipeline_request", "lora_gen.pipeline_start"),
    ("lora_gen.retrieval", "lora_gen.weight_space", "lora_gen.pipeline"),
    ("lora_gen.pipeline_stream",),
    ("lora_gen.evaluation",),
    ("lora_gen.cli",),
)

# Dependency -> the only places that may import it. A folder ends in a slash.
DOORS = {
    "gguf": ("lora_gen/adapter/gguf_format.py",),
    "ray": ("lora_gen/jobs.py",),
    "sqlite3": ("lora_gen/zoo/catalog.py",),
    "lancedb": ("lora_gen/retrieval/index.py",),
    "gradio": (
        "app/api.py",
        "app/api_combine.py",
        "app/api_pictures.py",
        "app/lean.py",
        "app/server.py",
        "app/tabs/",
        "app/ui.py",
    ),
    "accelerate": ("lora_gen/adapter/probe", "training/"),
    "omegaconf": ("training/",),
    "yaml": ("training/",),
    "typer": ("lora_gen/cli/",),
    "rich": ("lora_gen/cli/", "lora_gen/evaluation/run.py", "training/", "recipes/"),
    "tokenizers": ("recipes/",),
    "huggingface_hub": (
        "lora_gen/adapter/base_model.py",
        "lora_gen/adapter/probe",
        "lora_gen/conditioning/text.py",
        "lora_gen/pipeline.py",
        "recipes/hub/",
    ),
    "transformers": (
        "lora_gen/adapter/probe",
        "lora_gen/cli/common.py",
        "lora_gen/conditioning/chat.py",
        "lora_gen/conditioning/examples.py",
        "lora_gen/conditioning/text.py",
        "lora_gen/evaluation/",
        "lora_gen/pipeline.py",
        "lora_gen/retrieval/anchors.py",
        "recipes/",
        "training/",
    ),
    "diffusers": (
        "lora_gen/adapter/probe",
        "lora_gen/cli/common.py",
        "lora_gen/evaluation/pictures.py",
        "lora_gen/models/",
        "lora_gen/pipeline.py",
        "recipes/tiny_sd/",
        "training/",
    ),
    # Both formats are written and read without PEFT; fine-tuning, tests and users load with it.
    "peft": ("lora_gen/evaluation/refine.py", "recipes/tiny_lm/weight_space/"),
    "matplotlib": ("lora_gen/evaluation/figures.py", "lora_gen/retrieval/map.py", "recipes/"),
    "pickle": (),
    "sentence_transformers": (),
    "training": ("training/", "recipes/"),
    "app": ("app/",),
    "recipes": ("recipes/", "training/"),
}

# What else a single file must not know.
FORBIDDEN = {
    "lora_gen/errors.py": {"torch", "numpy"},
    "lora_gen/files.py": {"torch", "numpy"},
    "lora_gen/pipeline.py": {"lora_gen.zoo", "lora_gen.retrieval"},
    "training/loop.py": {"lora_gen.adapter", "lora_gen.codec", "lora_gen.models", "diffusers"},
    "app/ui.py": {"torch"},
}

MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS, MAX_FIELDS = 350, 60, 8, 14

# The options of a command are its parameters, the request of a Diffusers pipeline is its call's,
# and a registered config is its model's `__init__`.
MANY_PARAMETERS = {
    ("lora_gen/pipeline.py", "__call__"),
    ("lora_gen/cli/bulk.py", "generate"),
    ("lora_gen/cli/edit.py", "edit"),
    ("lora_gen/cli/evaluate.py", "evaluate"),
    ("lora_gen/cli/generate.py", "generate"),
    ("lora_gen/cli/merge.py", "merge"),
    ("lora_gen/cli/refine.py", "refine"),
    ("lora_gen/cli/search.py", "search"),
    ("lora_gen/models/adapter_encoder.py", "__init__"),
    ("lora_gen/models/recurrent_denoiser.py", "__init__"),
}

# Half of the call is the docstring of its arguments; the primitives are a table.
LONG_FUNCTIONS = {
    "lora_gen/pipeline.py:__call__",
    "recipes/tiny_lm/world/general.py:_plain",
}


@cache
def sources() -> dict[str, ast.Module]:
    """Path from the root -> syntax tree, for every file of ours outside the tests."""
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in paths}


def imports(path: str) -> Iterator[str]:
    """Every imported module, inside functions too; `from a import b` counts as a and a.b."""
    for node in ast.walk(sources()[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = path.split("/")[: -node.level] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(module: str, parents: set[str]) -> bool:
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def floor(module: str) -> tuple[int, str] | None:
    """Floor number and the folder or file on it."""
    for number, names in enumerate(FLOORS):
        for name in names:
            if within(module, {name}):
                return number, name
    return None


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_every_library_file_stands_on_a_floor() -> None:
    modules = [path.removesuffix(".py").replace("/", ".") for path in sources()]
    library = [name for name in modules if within(name, {"lora_gen"})]
    assert [name for name in library if floor(name) is None] == ["lora_gen.__init__"]


def test_imports_only_go_down_the_floors() -> None:
    wrong = []
    for path in sources():
        here = floor(path.removesuffix(".py").replace("/", "."))
        for module in imports(path):
            there = floor(module)
            # Files of one folder may import each other, and so may the files of the ground floor.
            is_near = here and there and (here == there or here[0] == there[0] == 0)
            if here and there and not is_near and there[0] >= here[0]:
                wrong.append(f"{path} imports {module}")
    assert wrong == []


def test_dependencies_come_in_by_their_doors() -> None:
    wrong = [
        f"{path} imports {module}"
        for path in sources()
        for module in imports(path)
        if (door := DOORS.get(module.split(".")[0])) is not None and not path.startswith(door)
    ]
    assert wrong == []


def test_files_do_not_know_what_they_must_not() -> None:
    wrong = [
        f"{path} imports {module}"
        for path, names in FORBIDDEN.items()
        if path in sources()
        for module in imports(path)
        if within(module, names)
    ]
    assert wrong == []


def test_files_are_short() -> None:
    paths = [*sources(), *(str(p.relative_to(ROOT)) for p in (ROOT / "tests").rglob("*.py"))]
    lengths = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in paths}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE} == {}


def test_functions_are_short() -> None:
    lengths = {
        f"{path}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, node in functions()
    }
    long = {name for name, lines in lengths.items() if lines > MAX_FUNCTION}
    assert long == LONG_FUNCTIONS


def test_functions_take_few_parameters() -> None:
    many = {(path, node.name) for path, node in functions() if parameters(node) > MAX_PARAMETERS}
    assert many == MANY_PARAMETERS


def test_configs_have_few_fields() -> None:
    fields = {
        f"{path}:{node.name}": sum(isinstance(line, ast.AnnAssign) for line in node.body)
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config")
    }
    assert {name: count for name, count in fields.items() if count > MAX_FIELDS} == {}


@pytest.mark.parametrize(
    "pattern",
    [
        r"raise NotImplementedError",
        r"(?<![\w.])/(root|work|Users/\w+)/",
        r"except:",
        r"weights_only=False|torch\.load\(",
        r"trust_remote_code=True",
    ],
)
def test_nothing_unfinished_or_unsafe_is_left(pattern: str) -> None:
    files = [*(ROOT / path for path in sources()), *(ROOT / "tests").rglob("*.py")]
    files = [path for path in files if path != Path(__file__).resolve()]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert found == []


def test_comments_promise_nothing() -> None:
    found = []
    for path in sources():
        with (ROOT / path).open("rb") as stream:
            found += [
                f"{path}:{token.start[0]}"
                for token in tokenize.tokenize(stream.readline)
                if token.type == tokenize.COMMENT and re.search(r"TODO|FIXME|XXX", token.string)
            ]
    assert found == []


def test_public_names_are_pinned_sorted_and_load() -> None:
    assert lora_gen.__all__ == PUBLIC == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(lora_gen, name).__name__ == name
    assert set(PUBLIC) <= set(dir(lora_gen))


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lora_gen' has no attribute 'Lora'"):
        _ = lora_gen.Lora


def test_verbs_are_pinned() -> None:
    from lora_gen.cli.main import app

    root = typer.main.get_command(app)
    assert sorted(root.commands) == VERBS["lora-gen"]
    for group in ("bulk", "zoo"):
        assert sorted(root.commands[group].commands) == VERBS[f"lora-gen {group}"]


def test_importing_the_package_loads_no_model_library() -> None:
    code = (
        "import sys, lora_gen\n"
        "heavy = {'torch', 'numpy', 'transformers', 'diffusers', 'peft', 'typer'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_the_pipeline_does_not_load_the_app_or_training() -> None:
    code = (
        "import sys\nfrom lora_gen import LoraGenPipeline\n"
        "print(*sorted({'gradio', 'training', 'app', 'sentence_transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
