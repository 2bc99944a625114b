"""Every way by which a hostile input comes in, each giving the same kind of answer."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_gen.adapter.archive import read_archive
from lora_gen.adapter.base_model import BaseModelSpec, ModuleShape, resolve_base
from lora_gen.adapter.io import load_adapter
from lora_gen.errors import LoraGenError
from tests.corpus.answer import Answer
from tests.corpus.build import MODULES
from tests.corpus.case import OK
from tests.corpus.entrances_of_services import ServiceEntrances

BASE = BaseModelSpec(
    id="tiny_lm",
    kind="transformers",
    architecture="LlamaForCausalLM",
    task_type="CAUSAL_LM",
    modules={name: ModuleShape(type="linear", out_features=6, in_features=4) for name in MODULES},
    num_layers=1,
    hidden_size=4,
    config_hash="0" * 64,
)


class Entrances(ServiceEntrances):
    """The entrances of one sandbox: `zoo/` holds the store, `cwd/` is where we stand."""

    def __init__(self, sandbox: Path) -> None:
        self.sandbox = sandbox
        self.zoo = sandbox / "zoo"
        self.out = sandbox / "out"
        self.unpacked = sandbox / "tmp" / "unpacked"

    def answer(self, entrance: str, given: Any, *, with_base: bool) -> Answer:
        """What the entrance says to the input."""
        call: Callable[..., Answer] = getattr(self, f"_{entrance}")
        try:
            return call(given, BASE if with_base else None)
        except LoraGenError as error:
            return Answer(error.code, str(error))
        except Exception as error:  # the oracle's very question
            return Answer("UNTYPED", str(error)[:500], untyped=type(error).__name__)

    def _load(self, path: Path, base: BaseModelSpec | None) -> Answer:
        load_adapter(path, base=base)
        return Answer(OK)

    def _archive(self, path: Path, base: BaseModelSpec | None) -> Answer:
        folder = read_archive(path, self.unpacked)
        try:
            load_adapter(folder, base=base)
        finally:
            shutil.rmtree(folder)
        return Answer(OK)

    def _archive_of(self, folder: Path, base: BaseModelSpec | None) -> Answer:
        path = self.sandbox / "tmp" / "of.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
        try:
            return self._archive(path, base)
        finally:
            path.unlink()

    def _doctor(self, path: Path, base: BaseModelSpec | None) -> Answer:
        from lora_gen.adapter.doctor import doctor

        report = doctor(path, base=base)
        json.dumps(report.to_dict(), allow_nan=False)
        code = OK if report.ok else "REFUSED"
        return Answer(code, "".join(report.errors[:1]), None, " ".join(report.warnings))

    def _inspect(self, path: Path, base: BaseModelSpec | None) -> Answer:
        return self._run("inspect", str(path), "--json")

    def _convert(self, path: Path, base: BaseModelSpec | None) -> Answer:
        return self._run("convert", str(path), str(self.out), "--json")

    def _apply(self, path: Path, base: BaseModelSpec | None) -> Answer:
        return self._run("apply", str(path), "abc", "--json")

    def _zoo_add(self, path: Path, base: BaseModelSpec | None) -> Answer:
        return self._run("zoo", "add", str(self.zoo), str(path), "--task", "x", "--json")

    def _zoo_read(self, folder: Path, base: BaseModelSpec | None) -> Answer:
        from lora_gen.zoo.store import Zoo

        with Zoo.open(folder, read_only=True) as zoo:
            for entry in zoo.entries():
                zoo.load(entry.id)
        return Answer(OK)

    def _run(self, *arguments: str) -> Answer:
        from typer.testing import CliRunner

        from lora_gen.cli.main import app

        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            name = type(result.exception).__name__
            return Answer("UNTYPED", str(result.exception)[:500], result.exit_code, untyped=name)
        content = json.loads(result.stdout)
        if result.exit_code == 0:
            return Answer(OK, exit_code=0)
        return Answer(content["error"]["code"], content["error"]["message"], result.exit_code)

    def _base_name(self, name: str, base: BaseModelSpec | None) -> Answer:
        resolve_base(name)
        return Answer(OK)

    def _request(self, request: dict[str, Any], base: BaseModelSpec | None) -> Answer:
        from lora_gen.codec.layout import TokenLayout
        from lora_gen.conditioning.condition import encode_examples, encode_prompts
        from lora_gen.conditioning.text import check_text
        from lora_gen.pipeline_checks import require_options

        options = {"num_adapters": 1, "num_inference_steps": 4, "guidance_scale": 1.0, "rank": 4}
        options |= {name: value for name, value in request.items() if name in options}
        require_options(
            options["num_adapters"], options["num_inference_steps"], options["guidance_scale"]
        )
        TokenLayout.build(BASE, rank=options["rank"], width=4)
        if "text" in request:
            check_text(request["text"])
        if "prompts" in request:
            encode_prompts([request["prompts"]])
        if "examples" in request:
            encode_examples([request["examples"]])
        return Answer(OK)
