"""Benchmarks: the peers have their published sizes, and reports say what was measured."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from lora_gen.errors import ConfigError
from recipes.benchmarks.ours import large_generator, macs_a_token
from recipes.benchmarks.peers import DND_SHAPES, DndLayer, Mamba2, RpgDenoiser, T2lNetwork
from recipes.benchmarks.suite import growth_exponent, write_report
from recipes.benchmarks.tables import PAGES, filled
from training.benchmark_task import BenchmarkConfig, refuse_training
from training.task import TaskContext

ROW = {
    "name": "llama/16",
    "values": 42_000_000,
    "seconds": 2.0,
    "cpu_seconds": 4.0,
    "setup_mib": 500,
    "peak_mib": 700,
    "generator_parameters": 27_000_000,
}


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_large_generator_is_within_sixty_million_parameters():
    denoiser = large_generator().denoiser
    once, step = macs_a_token(denoiser, memory=6)
    assert _parameters(denoiser) < 60e6
    assert 0 < step < once < _parameters(denoiser)


def test_dnd_decoder_has_its_published_size():
    with torch.device("meta"):
        layers = [DndLayer(a, b) for a, b in itertools.pairwise(DND_SHAPES)]
    assert sum(map(_parameters, layers)) == pytest.approx(1.11e9, rel=0.03)


def test_dnd_layer_gives_the_next_shape():
    layer = DndLayer((4, 6, 8), (5, 3, 7)).eval()
    assert layer(torch.randn(4, 6, 8)).shape == (5, 3, 7)


def test_rpg_denoiser_costs_what_its_paper_says():
    convs = RpgDenoiser(64).convs
    assert sum(c.in_channels * c.out_channels * c.kernel_size[0] for c in convs) == 143_808


def test_rpg_core_has_its_published_size():
    width = 2048
    with torch.device("meta"):
        parts = [Mamba2(width), Mamba2(width), RpgDenoiser(width)]
    assert sum(map(_parameters, parts)) == pytest.approx(58.7e6, rel=0.05)


def test_mamba_reads_only_what_came_before():
    torch.manual_seed(0)
    block, x = Mamba2(64).eval(), torch.randn(6, 64)
    changed = x.clone()
    changed[4:] += 1
    torch.testing.assert_close(block(changed)[:4], block(x)[:4])
    assert not torch.allclose(block(changed)[4:], block(x)[4:])


def test_t2l_makes_both_factors_of_each_module_in_all_layers():
    network = T2lNetwork({"q": 40, "v": 24}, layers=3, latent=16, head=8)
    assert [tuple(part.shape) for part in network(torch.randn(1, 1024))] == [(3, 40), (3, 24)]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_growth_exponent_is_the_power(power):
    rows = [{"values": n, "seconds": 3 * n**power} for n in (10, 100, 5000)]
    assert growth_exponent(rows, "seconds") == pytest.approx(power)


def test_report_is_json_table_and_figure(tmp_path):
    write_report(tmp_path, "Speed", [ROW], {"steps": 20})
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["steps"], report["rows"]) == (20, [ROW])
    assert "| llama/16 | 42,000,000 | 2.00 | 4.00 |" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.svg").read_text().count("<svg") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"adapters": ("llama",)}, "holds 'llama', but must hold `base/rank` pairs"),
        ({"adapters": ("llama/16",)}, "needs two sizes or more"),
    ],
)
def test_benchmark_refuses_sizes_it_cannot_compare(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        BenchmarkConfig(suite="size", **options)


def test_benchmark_is_not_trained():
    context = TaskContext(seed=0, batch_size=1, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match="is measured, not trained or exported"):
        refuse_training(BenchmarkConfig(suite="peers"), context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_of_the_page_are_those_of_the_reports(page):
    assert filled(page.read_text("utf-8")) == page.read_text("utf-8")


def test_report_of_sizes_draws_the_fitted_power(tmp_path):
    rows = [{**ROW, "name": f"x/{n}", "values": n, "cpu_seconds": n / 1e6} for n in (10**6, 10**8)]
    write_report(tmp_path, "Sizes", rows, {"growth_exponent": 1.0})
    assert "values ** 1.0" in (tmp_path / "report.svg").read_text()
