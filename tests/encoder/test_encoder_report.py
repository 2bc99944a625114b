import pytest
import torch

from lora_gen.evaluation.encoder_report import ranks_of, report, summary
from lora_gen.retrieval.corpus import Corpus

COUNT, MODULES, SKETCH = 120, 2, 3


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Adapters whose linear sketches are a linear function of their texts, and nothing else is."""
    torch.manual_seed(0)
    meaning = torch.randn(COUNT, 8)
    texts = torch.cat([meaning + 0.01 * torch.randn(COUNT, 8) for _ in range(2)], 1).view(-1, 8)
    linear = (meaning @ torch.randn(8, MODULES * SKETCH**2)).view(COUNT * MODULES, -1)
    other = torch.randn(COUNT * MODULES, SKETCH**2 + SKETCH * (SKETCH + 1))
    return Corpus(
        sketches=torch.cat([linear, other], 1).half(),
        roles=torch.zeros(COUNT * MODULES, dtype=torch.int64),
        side=torch.randn(COUNT * MODULES, 19),
        scale=torch.randn(COUNT * MODULES),
        offsets=torch.arange(COUNT + 1) * MODULES,
        segments=texts[:, None].expand(-1, 5, -1).half(),
        owners=torch.arange(COUNT).repeat_interleave(2),
        accuracy=torch.rand(COUNT),
        ids=tuple(f"{i:040x}" for i in range(COUNT)),
        splits=tuple("seen" if i < 80 else "unseen_argument" for i in range(COUNT)),
        families=tuple(str(i) for i in range(COUNT)),
        bases=("tiny",) * COUNT,
        text_fingerprint="f",
    )


def test_report_tells_a_signal_from_its_controls(corpus: Corpus) -> None:
    methods = report(corpus, None)["methods"]
    top1 = {name: found["all"]["top1"]["value"] for name, found in methods.items()}
    assert top1["linear sketches, closed form"] > 0.9
    assert top1["card text (uses metadata)"] > 0.9
    assert max(top1["norms"], top1["norms and spectra"], top1["labels permuted"]) < 0.2


def test_ties_count_against_the_method() -> None:
    assert ranks_of(torch.ones(3, 4), torch.arange(3)).tolist() == [3, 3, 3]
    assert ranks_of(torch.eye(3), torch.arange(3)).tolist() == [0, 0, 0]


def test_summary_has_intervals() -> None:
    found = summary(torch.tensor([0, 0, 3, 20]))
    assert found["top1"]["value"] == 0.5
    assert found["top10"]["value"] == 0.75
    assert found["mrr"]["low"] <= found["mrr"]["value"] <= found["mrr"]["high"]
