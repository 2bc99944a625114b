"""What the package ships: the promises about the embedded default, checked on its files."""

import json

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from lora_gen.adapter.base_model import resolve_base
from lora_gen.adapter.stacked import stack_adapters, stacked_adapters
from lora_gen.assets import asset_path, default_generator
from lora_gen.evaluation.behavior import TaskRunner, exact_matches
from lora_gen.files import sha256_file
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo

ASSETS = asset_path("tiny_lm")
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


@pytest.fixture(scope="module")
def zoo():
    with Zoo.open(ASSETS / "zoo", read_only=True) as opened:
        yield opened


def report(name):
    return json.loads((ASSETS / "reports" / name).read_text())


def test_assets_are_at_most_60_megabytes():
    assert sum(f.stat().st_size for f in ASSETS.rglob("*") if f.is_file()) <= 60_000_000


def test_assets_manifest_names_the_hash_of_every_shipped_file():
    for name, digest in report("../manifest.json")["files"].items():
        assert sha256_file(ASSETS / name) == digest, name


def test_zoo_ships_at_least_300_whole_adapters(zoo):
    assert len(zoo) >= 300
    assert zoo.verify().ok


def test_zoo_entries_record_how_they_were_made(zoo):
    for entry in zoo.entries():
        assert len(entry.descriptions) >= 8
        assert entry.prompts
        assert entry.examples
        assert None not in (entry.seed, entry.steps, entry.accuracy)


def test_base_loads_without_custom_code_and_has_at_most_4_million_parameters():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve_base("tiny_lm")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sum(p.numel() for p in model.parameters()) <= 4_000_000
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Zoë paid €5\t→ ok"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_base_report_meets_the_bars_of_the_world():
    scores = report("base.json")["exact_match"]
    assert scores["0-shot"]["value"] <= 0.05
    assert scores["4-shot"]["value"] >= 0.60


def test_oracle_adapters_meet_the_bar_of_the_world():
    summary = report("report.json")["summary"]
    scores = [summary[split]["exact_match"]["oracle LoRA"]["value"] for split in summary]
    assert sum(scores) / len(scores) >= 0.85


def test_generated_adapters_meet_the_bars_and_keep_what_was_reached():
    summary = report("report.json")["summary"]
    share = {name: part["share_of_oracle_gain"] for name, part in summary.items()}
    assert share["seen"]["generated"]["value"] >= 0.80
    assert share["unseen_composition"]["generated"]["value"] >= 0.72  # the bar is 0.60
    assert share["unseen_wording"]["generated"]["value"] >= 0.75


@pytest.mark.parametrize("split", ["unseen_composition", "unseen_argument", "unseen_primitive"])
def test_generated_adapters_beat_the_trivial_ways_on_unseen_tasks(split):
    scores = report("report.json")["summary"][split]["exact_match"]
    for trivial in ("base zero-shot", "mean LoRA", "nearest text"):
        assert scores["generated"]["low"] > scores[trivial]["high"]


def test_zoo_adapter_gives_peft_the_logits_that_we_compute(zoo):
    runner = TaskRunner("tiny_lm")  # its own: PEFT changes the base
    from peft import PeftModel

    entry = zoo.entries()[0]
    ids = torch.tensor([runner.chat.question(entry.prompts[0])])
    with torch.no_grad(), stacked_adapters(runner.model, stack_adapters([zoo.load(entry.id)])):
        ours = runner.model(ids).logits
    bare = runner.model(ids).logits
    peft = PeftModel.from_pretrained(runner.model, zoo.folders.path_of(entry.id)).eval()
    with torch.no_grad():
        theirs = peft(input_ids=ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, bare, atol=1e-2)


@pytest.fixture(scope="module")
def pipe():
    return LoraGenPipeline.from_pretrained(default_generator())


@pytest.fixture(scope="module")
def runner():
    return TaskRunner("tiny_lm")


def exact_match(pipe, runner, zoo, **options):
    entries = zoo.entries(split="seen")[:24]
    lines = [runner.chat.line(*pair) for entry in entries for pair in entry.extra["tests"][:8]]
    adapters = [
        pipe(entry.descriptions[0], generator=torch.Generator().manual_seed(0), **options).adapters[
            0
        ]
        for entry in entries
    ]
    hits = exact_matches(runner.model, runner.chat.pack(lines), stack_adapters(adapters))
    return float(hits.float().mean())


@pytest.mark.parametrize(
    ("scheduler", "steps"),
    [
        (FlowMatchEulerDiscreteScheduler(), 1),
        (FlowMatchEulerDiscreteScheduler(), 12),
        (DPMSolverMultistepScheduler(**FLOW), 8),
        (UniPCMultistepScheduler(**FLOW), 8),
    ],
)
def test_shipped_generator_is_as_good_under_any_flow_scheduler(pipe, runner, zoo, scheduler, steps):
    usual = exact_match(pipe, runner, zoo)
    default = pipe.scheduler
    pipe.scheduler = scheduler
    try:
        other = exact_match(pipe, runner, zoo, num_inference_steps=steps)
    finally:
        pipe.scheduler = default
    assert usual >= 0.6
    assert other >= usual - 0.1


def test_shipped_generator_serves_any_rank(pipe, runner, zoo):
    usual = exact_match(pipe, runner, zoo)
    assert exact_match(pipe, runner, zoo, rank=2) >= usual - 0.15


def test_readme_figures_are_those_of_the_reports(monkeypatch):
    from recipes.tiny_lm import figures

    monkeypatch.setattr("sys.argv", ["figures", "--check"])
    figures.main()
