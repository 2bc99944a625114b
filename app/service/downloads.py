"""What a visitor takes home: an adapter folder as one zip file, and the code that loads it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.zoo.entry import ZooEntry

_CODE = """\
# pip install lora_gen peft transformers     (unzip the download first)
from lora_gen import resolve_base
from peft import PeftModel
from transformers import {architecture}, AutoTokenizer

folder = resolve_base({base!r})
base = {architecture}.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = PeftModel.from_pretrained(base, "lora-{id}").eval()

chat = [{{"role": "user", "content": {example!r}}}]
question = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
ids = tokenizer(question, return_tensors="pt", add_special_tokens=False)
answer = model.generate(**ids, max_new_tokens=64, do_sample=False)[0, ids["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""

_CODE_DIFFUSERS = """\
# pip install lora_gen diffusers             (unzip the download first)
from diffusers import DiffusionPipeline
from lora_gen import resolve_base

pipe = DiffusionPipeline.from_pretrained(resolve_base({base!r}))
pipe.load_lora_weights(
    "lora-{id}", weight_name="pytorch_lora_weights.safetensors", use_safetensors=True
)
pipe({example!r}, guidance_scale=2.0, num_inference_steps=25).images[0].save("picture.png")
"""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SHOWN_ID = 16


def zip_folder(folder: Path, id: str) -> Path:
    """`lora-<id>.zip` beside `folder`, the same bytes for the same files."""
    path = folder.parent / f"lora-{id}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = f"lora-{id}/{file.relative_to(folder).as_posix()}"
                _add(archive, name, file.read_bytes())
    return path


def zip_entries(entries: Sequence[tuple[ZooEntry, Path]], path: Path) -> Path:
    """Zoo entries as one zip file: a folder for each, named by its id, with what is known of it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, folder in entries:
            name = f"lora-{entry.id[:_SHOWN_ID]}"
            for file in sorted(folder.iterdir()):
                if file.is_file():
                    _add(archive, f"{name}/{file.name}", file.read_bytes())
            known = json.dumps(entry.to_dict(), indent=2, sort_keys=True)
            _add(archive, f"{name}/entry.json", known.encode())
    return path


def loading_code(spec: BaseModelSpec, id: str, example: str) -> str:
    """Python that loads the downloaded adapter and asks it once."""
    code = _CODE_DIFFUSERS if spec.kind == "diffusers" else _CODE
    return code.format(architecture=spec.architecture, base=spec.id, id=id, example=example)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.external_attr = 0o644 << 16
    is_weights = name.endswith(".safetensors")  # whose values hardly shrink
    member.compress_type = zipfile.ZIP_STORED if is_weights else zipfile.ZIP_DEFLATED
    archive.writestr(member, content)
