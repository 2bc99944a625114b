"""Zoos from the hub, offline: stand-ins of the architectures in a cache of the hub's layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from adapter_factories import random_adapter
from diffusers_factories import pipeline_spec, tiny_pipeline
from generator_factories import SIZES, StubTextEncoder, byte_base, task_pairs
from hub_factories import FakeApi, HubCache, HubModel, stand_in

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.adapter.io import save_adapter
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from lora_gen.zoo.store import Zoo
from recipes.hub.cards import describe, words_of
from recipes.hub.import_zoo import import_zoo
from recipes.hub.listing import ZooSource, list_adapters, read_source

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = ("qwen2.5", "mistral-lots-of-loras", "sd15-styles")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    return HubCache(tmp_path / "cache", monkeypatch)


def _source(base: str, **options: Any) -> ZooSource:
    return ZooSource(base=base, licenses=("mit",), **options)


def _upload(folder: Path, adapter: Adapter, card: str = "") -> None:
    save_adapter(adapter, folder / "made", exact=True)
    for path in (folder / "made").iterdir():
        path.rename(folder / path.name)
    (folder / "made").rmdir()
    (folder / "README.md").write_text(card)


@pytest.mark.parametrize("name", NAMES)
def test_every_source_names_its_base_and_licenses(name: str) -> None:
    source = read_source(RECIPES / name / "zoo.json")
    assert source.base.count("/") == 1
    assert "mit" in source.licenses
    readme = (RECIPES / name / "README.md").read_text("utf-8")
    assert source.base in readme
    for heading in ("## Run it", "## Hardware and time, calculated"):
        assert heading in readme


def test_listing_asks_by_base_and_says_why_others_are_left_out() -> None:
    api = FakeApi(
        [
            HubModel("a/good"),
            HubModel("a/closed", gated="auto"),
            HubModel("a/secret", license=None),
            HubModel("a/pickle", file="adapter_model.bin"),
        ]
    )
    chosen, refused = list_adapters(api, _source("acme/base"))
    assert api.asked[0]["filter"] == ["base_model:adapter:acme/base", "lora"]
    assert [(x.repo, len(x.revision)) for x in chosen] == [("a/good", 40)]
    assert refused == {
        "a/closed": "it is gated",
        "a/secret": "its license is not named",
        "a/pickle": "it has no safetensors file",
    }


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (
            "---\nlicense: mit\n---\n# x\n\nTurns dates into ISO form.\n",
            "Turns dates into ISO form.",
        ),
        ("# Model Card for x\n\n[More Information Needed]\n", "fix dates"),
        ("", "fix dates"),
        (
            "![pic](http://x)\n\nA [small](http://y) helper for dates.\n",
            "A small helper for dates.",
        ),
    ],
)
def test_card_says_what_an_adapter_does_or_its_name_does(card: str, said: str) -> None:
    assert describe(card, "acme/task12_fix_dates-lora") == said


def test_words_of_a_name_leave_out_what_all_names_share() -> None:
    assert words_of("x/Mistral-7B-Instruct-v0.2-task1391_winogrande") == "winogrande"


def test_import_reports_each_adapter_and_goes_on_where_it_stopped(
    cache: HubCache, tmp_path: Path
) -> None:
    byte_base(tmp_path / "base")
    spec = BaseModelSpec.from_config(tmp_path / "base", id="acme/base")
    listing = []
    for name, license, base in (
        ("a/shout", "mit", "acme/base"),
        ("a/folder", "mit", "/data/my base"),
        ("a/other", "mit", "acme/other"),
        ("a/closed", "proprietary", "acme/base"),
    ):
        folder, listed = cache.listed(name, license)
        _upload(folder, replace(random_adapter(spec, rank=2, seed=len(name)), base=base))
        listing.append(listed)
    broken, listed = cache.listed("a/broken")
    (broken / "adapter_config.json").write_text("{")
    source = _source("acme/base")
    report = import_zoo(source, [*listing, listed], tmp_path / "out", base=str(tmp_path / "base"))
    assert report.added == ("a/shout", "a/folder")
    assert "names the base `acme/other`" in report.refused["a/other"]
    assert "the license 'proprietary'" in report.refused["a/closed"]
    assert "a/broken" in report.refused
    again = import_zoo(source, listing, tmp_path / "out", base=str(tmp_path / "base"))
    assert (again.added, again.known) == ((), ("a/shout", "a/folder"))
    assert json.loads((tmp_path / "out" / "import.json").read_text())["added"] == []


def test_import_fills_missing_modules_with_zeros_and_leaves_out_high_ranks(
    cache: HubCache, tmp_path: Path
) -> None:
    base = str(byte_base(tmp_path / "base"))
    spec = BaseModelSpec.from_config(base, id="acme/base")
    listing = []
    for name, rank in (("acme/low", 2), ("acme/high", 3)):
        adapter = random_adapter(spec, rank=rank)
        part = {n: p for n, p in adapter.pairs.items() if n.endswith("q_proj")}
        folder, listed = cache.listed(name)
        _upload(folder, replace(adapter, pairs=part))
        listing.append(listed)
    report = import_zoo(_source("acme/base", max_rank=2), listing, tmp_path / "out", base=base)
    assert report.refused == {"acme/high": "It has rank 3, above 2."}
    with Zoo.open(tmp_path / "out" / "zoo", read_only=True) as zoo:
        loaded = zoo.load(zoo.ids()[0])
    assert set(loaded.pairs) == set(select_targets(spec, "all-linear"))
    assert not any(p.lora_b.any() for n, p in loaded.pairs.items() if not n.endswith("q_proj"))


@pytest.mark.parametrize("architecture", ["qwen2.5", "mistral-lots-of-loras"])
def test_text_recipe_runs_end_to_end_on_a_stand_in(
    architecture: str, cache: HubCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.loop import train
    from training.recipe import load_recipe

    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    base = str(stand_in(tmp_path / "base", architecture))
    spec = BaseModelSpec.from_config(base, id="acme/base")
    listing = []
    for seed, task in enumerate(("upper", "lower", "reverse", "title")):
        folder, listed = cache.listed(f"acme/{task}-lora")
        adapter = random_adapter(spec, rank=2, seed=seed)
        kept = {n: p for n, p in adapter.pairs.items() if n.endswith(("q_proj", "v_proj"))}
        _upload(folder, replace(adapter, pairs=kept), f"Writes it {task} every time.\n")
        cache.dataset(f"acme/{task}-lora", task_pairs(task))
        listing.append(listed)
    monkeypatch.setattr(
        "recipes.hub.import_zoo._split",
        lambda family: "unseen_composition" if family == "title" else "seen",
    )
    targets = read_source(RECIPES / architecture / "zoo.json").targets
    source = _source("acme/base", dataset="acme/{name}", targets=targets)
    assert import_zoo(source, listing, tmp_path / "out", base=base).refused == {}
    with Zoo.open(tmp_path / "out" / "zoo", read_only=True) as zoo:
        assert zoo.entries()[0].descriptions[0] == "Writes it upper every time."
    small = [f"task.model.{key}={value}" for key, value in SIZES.items()]
    recipe = load_recipe(
        RECIPES / architecture / "generator.yaml",
        [
            *(f"output_dir={tmp_path / 'run'}", "max_steps=1", "batch_size=2", "threads=1"),
            *(f"task.base={base}", f"task.behaviors={tmp_path / 'out' / 'behaviors.jsonl'}"),
            *(f"task.zoo={tmp_path / 'out' / 'zoo'}", f"task.cache={tmp_path / 'cache2'}"),
            *("task.objective.lines_per_task=2", "task.objective.ranks=[2]", *small),
            *("tracking.eval_every=0", "mixed_precision=no", "task.objective.flow_weight=0.1"),
        ],
    )
    assert train(recipe) == 1
    assert (tmp_path / "run" / "final" / "model_index.json").is_file()


def test_image_recipe_runs_end_to_end_on_a_stand_in(cache: HubCache, tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "base")
    spec = pipeline_spec()
    folder, listed = cache.listed("acme/pixel-style")
    adapter = random_adapter(spec, rank=2)
    save_adapter(adapter, folder / "made", format="diffusers", base=spec)
    (folder / "made" / "pytorch_lora_weights.safetensors").rename(folder / "style v1.safetensors")
    (folder / "README.md").write_text(
        "---\ninstance_prompt: pixel\n---\nCoarse pixels everywhere.\n"
    )
    source = _source("acme/tiny-sd")
    report = import_zoo(source, [listed], tmp_path / "out", base=str(tmp_path / "base"))
    assert (report.added, report.refused) == (("acme/pixel-style",), {})


def test_source_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zoo.json").write_text('{"base": "a/b", "licenses": [], "token": "x"}')
    with pytest.raises(ConfigError, match="must have `base` and `licenses`"):
        read_source(tmp_path / "zoo.json")
