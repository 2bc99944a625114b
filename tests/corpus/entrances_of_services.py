"""The entrances of the app, the retrieval index and training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lora_gen.adapter.base_model import BaseModelSpec
from tests.corpus.answer import Answer
from tests.corpus.case import OK
from tests.corpus.page import judge_markup

SKIPPED = "SKIPPED"
"""What an index says of entries that it left out and named."""

TOY_STEPS = 3


class ServiceEntrances:
    """Mixed into the entrances of one sandbox."""

    sandbox: Path

    def _act(self, act: Callable[[Path], object], base: BaseModelSpec | None) -> Answer:
        place = self.sandbox / "tmp" / "act"
        place.mkdir()
        try:
            act(place)
        finally:
            shutil.rmtree(place)
        return Answer(OK)

    def _upload(self, path: Path, base: BaseModelSpec | None) -> Answer:
        """As the app takes it in and shows it; what it draws must be inert."""
        from app.pictures.findings import findings
        from app.pictures.heat_map import heat_map
        from app.pictures.spectra import module_table
        from app.service.inspection import examine
        from app.service.models import Models
        from app.service.uploads import receive_adapter

        files = _picked(path)
        into = self.sandbox / "tmp" / "session"
        source, adapter = receive_adapter(files, into)
        try:
            found = examine(Models("", ()), source, adapter, title="upload 1")
            norms = {facts.module: facts.norm for facts in found.modules}
            for markup in (
                findings(found),
                heat_map(norms, caption="c"),
                module_table(found.modules),
            ):
                judge_markup(markup)
        finally:
            shutil.rmtree(into)
        return Answer(OK)

    def _app_request(self, request: dict[str, Any], base: BaseModelSpec | None) -> Answer:
        from app.service.generation import GenerateRequest

        GenerateRequest(**request)
        return Answer(OK)

    def _index(self, zoo: Path, base: BaseModelSpec | None) -> Answer:
        """Opened over a zoo from elsewhere, and over what lies in the index's own folder."""
        from lora_gen.retrieval.search import AdapterIndex
        from lora_gen.retrieval.vectors import Vectorizer

        place = self.sandbox / "tmp" / "index"
        planted = zoo.parent / "index"
        if planted.is_dir():
            shutil.copytree(planted, place, symlinks=True)
        vectorizer = Vectorizer()
        vectorizer.__dict__["text_encoder"] = SimpleNamespace(width=4)
        try:
            with AdapterIndex.open(zoo, folder=place, vectorizer=vectorizer) as index:
                for entry_id in index.vectors("signature")[0]:
                    found = index.similar(index.zoo.load(entry_id), top=3)
                    assert found[0].entry.id == entry_id
                left_out = [line for line in index.repairs if "cannot be read" in line]
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return Answer(SKIPPED, f"{left_out[0]}.") if left_out else Answer(OK)

    def _resume(self, run: Path, base: BaseModelSpec | None) -> Answer:
        """Training goes on from a run's folder, as the trainer of a recipe does."""
        from tests.corpus.runs import toy_recipe
        from training.loop import train

        place = self.sandbox / "tmp" / "run"
        shutil.copytree(run, place, symlinks=True)
        try:
            steps = train(toy_recipe(place, TOY_STEPS))
        finally:
            shutil.rmtree(place)
        assert steps == TOY_STEPS
        return Answer(OK)


def _picked(path: Path) -> list[str]:
    """What a visitor would send of a folder: what the page's picker shows, or else everything."""
    if not path.is_dir():
        return [str(path)]
    files = sorted(path.iterdir())
    shown = [file for file in files if file.suffix in (".zip", ".safetensors", ".json", ".md")]
    weights = any(file.suffix == ".safetensors" for file in shown)
    return [str(file) for file in (shown if weights else files)]
