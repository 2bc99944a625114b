"""One gate: the loaders of PEFT, Transformers and Diffusers see only adapters that we wrote.

What a stranger sent is read by our own readers alone. So each call that hands an adapter's folder
to a library stands here with the reason why that folder is ours, and a new one fails.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADERS = {
    *("load_lora_weights", "load_lora_adapter", "lora_state_dict", "load_ip_adapter"),
    *("set_peft_model_state_dict", "load_peft_weights", "inject_adapter_in_model"),
    *("load_textual_inversion", "load_attn_procs", "load_adapter_weights"),
}
PEFT_CLASSES = ("Peft", "AutoPeft", "LoraConfig", "LoraModel")

ALLOWED = {
    "lora_gen/evaluation/refine.py": "a folder that `save_adapter` wrote two lines above",
    "recipes/tiny_lm/weight_space/peft_merges.py": "folders that its caller saved from a zoo",
}
WEIGHT_READERS = {
    "lora_gen/adapter/": "the gate itself",
    "lora_gen/safetensors_header.py": "the gate itself",
    "lora_gen/safetensors_stream.py": "writes what is generated",
    "lora_gen/evaluation/encoder_baselines/data.py": "its own cache",
    "lora_gen/retrieval/": "its own caches, and the weights of a base or a text encoder",
    "training/": "own checkpoints, whose headers are judged first, and own caches",
    "recipes/": "what the recipe itself has made",
}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """(file, dotted name, call) of every call outside the tests."""
    for folder in ("lora_gen", "app", "training", "recipes"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    yield str(path.relative_to(ROOT)), ast.unparse(node.func), node


def test_libraries_load_only_adapters_that_we_wrote() -> None:
    found = set()
    for path, name, _ in calls():
        owner, _, method = name.rpartition(".")
        is_peft = method == "from_pretrained" and owner.split(".")[-1].startswith(PEFT_CLASSES)
        if is_peft or method in LOADERS or name in LOADERS:
            found.add(path)
    assert found <= set(ALLOWED)


def test_weights_are_opened_by_the_gate_or_by_whoever_made_them() -> None:
    wanted = ("safe_open", "load_file", "safetensors.torch.load", "torch.load")
    found = {path for path, name, _ in calls() if name in wanted}
    assert {path for path in found if not path.startswith(tuple(WEIGHT_READERS))} == set()


def test_nothing_is_loaded_with_code_of_its_own() -> None:
    wrong = [
        (path, name)
        for path, name, call in calls()
        for keyword in call.keywords
        if (keyword.arg == "trust_remote_code" and ast.unparse(keyword.value) != "False")
        or (keyword.arg == "use_safetensors" and ast.unparse(keyword.value) != "True")
        or keyword.arg in ("custom_pipeline", "auto_mapping")
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ["pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"])
def test_nothing_reads_pickles(module: str) -> None:
    for folder in ("lora_gen", "app", "training", "recipes"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(n == module or n.startswith(f"{module}.") for n in names), path
