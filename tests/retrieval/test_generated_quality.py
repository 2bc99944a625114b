import pytest
import torch

from lora_gen.errors import GeneratorError
from lora_gen.retrieval.fit_generated import GeneratedRows, fit_generated, part_of
from lora_gen.retrieval.generated import GeneratedQuality, Learned, interpolated

WIDTH = 6
KINDS = ("seen", "unseen_primitive")


def learned() -> Learned:
    torch.manual_seed(1)
    texts, adapters = torch.nn.functional.normalize(torch.randn(2, 7, WIDTH), dim=-1)
    return Learned(texts=texts, adapters=adapters)


def rows(count: int, seed: int) -> GeneratedRows:
    """Adapters whose accuracy follows the first input, the noisier the lower it is."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 8, generator=generator)
    middle = torch.sigmoid(inputs[:, 0])
    noise = torch.randn(count, generator=generator) * 0.3 * (1 - middle)
    return GeneratedRows(
        inputs=inputs,
        truth=(middle + noise).clamp(0, 1),
        tasks=tuple(f"{seed}/{n}" for n in range(count)),
        kinds=tuple(KINDS[n % 3 == 0] for n in range(count)),
        ranks=(4,) * count,
    )


@pytest.fixture(scope="module")
def quality() -> GeneratedQuality:
    return fit_generated(learned(), rows(600, 0), rows(400, 1))


def test_interval_holds_the_promised_share_of_other_tasks(quality) -> None:
    held = rows(3000, 2)
    low, high = quality.interval(quality.predict(held.inputs))
    inside = ((held.truth >= low) & (held.truth <= high)).double()
    assert float((inside * held.shares()).sum()) == pytest.approx(0.9, abs=0.03)


def test_interval_is_wider_where_errors_were_larger(quality) -> None:
    low, high = quality.interval(torch.tensor([0.35, 0.8]))
    assert float(high[0] - low[0]) > float(high[1] - low[1])
    assert float(low.min()) >= 0
    assert float(high.max()) <= 1


def test_prediction_follows_the_truth(quality) -> None:
    held = rows(500, 3)
    found = torch.corrcoef(torch.stack([quality.predict(held.inputs), held.truth]))
    assert float(found[0, 1]) > 0.6


def test_far_inputs_are_out_of_the_support(quality) -> None:
    assert float(quality.distance(torch.zeros(1, 8))) < float(quality.limit)
    assert float(quality.distance(torch.full((1, 8), 50.0))) > float(quality.limit)


def test_file_gives_the_same_predictions(quality, tmp_path) -> None:
    quality.save(tmp_path / "generated.safetensors")
    again = GeneratedQuality.load(tmp_path / "generated.safetensors")
    inputs = rows(20, 4).inputs
    torch.testing.assert_close(again.predict(inputs), quality.predict(inputs))
    torch.testing.assert_close(again.learned.texts, quality.learned.texts, atol=0.005, rtol=0)


def test_damaged_file_is_refused(tmp_path) -> None:
    path = tmp_path / "generated.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(GeneratorError, match="holds no calibration for generated adapters"):
        GeneratedQuality.load(path)


def test_too_few_adapters_promise_nothing() -> None:
    found = fit_generated(learned(), rows(60, 0), rows(5, 1))
    assert torch.isinf(found.reach)


def test_every_kind_counts_the_same() -> None:
    some = rows(30, 0)
    share = some.shares()
    seen = torch.tensor([kind == "seen" for kind in some.kinds])
    assert float(share[seen].sum()) == pytest.approx(0.5)


def test_task_is_in_one_part_whatever_asks_for_it() -> None:
    parts = [part_of(f"task {n}") for n in range(4000)]
    assert parts == [part_of(f"task {n}") for n in range(4000)]
    assert parts.count("fit") / 4000 == pytest.approx(0.5, abs=0.05)


def test_nearness_of_a_learned_task_is_one() -> None:
    own = learned()
    near = own.near(own.texts[:3], own.adapters[:3])
    assert near.shape == (3, 16)
    torch.testing.assert_close(near[:, 1], torch.ones(3))


def test_interpolation_meets_its_knots_and_is_flat_beyond() -> None:
    knots, values = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 3.0, 2.0])
    torch.testing.assert_close(interpolated(knots, knots, values), values)
    found = interpolated(torch.tensor([-1.0, 0.25, 2.0]), knots, values)
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, 2.0]))
