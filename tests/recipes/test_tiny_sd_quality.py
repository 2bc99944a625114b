import pytest
import torch

from recipes.tiny_sd.quality import left_out, predictions


def problem(count: int = 400) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(kernel, truth, who is seen) of adapters whose quality lies in one direction."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, generator=generator).double()
    noise = 0.05 * torch.randn(count, generator=generator).double()
    kernel = (-torch.cdist(x, x).square() / 8).exp()
    return kernel, 0.6 + 0.1 * x[:, 0] + noise, torch.arange(count) < 200


def test_left_out_predictions_are_those_of_a_fit_without_the_adapter():
    kernel, truth, seen = problem()
    kernel, truth = kernel[seen][:, seen], truth[seen]
    others = torch.arange(200) != 7
    weights = torch.linalg.solve(
        kernel[others][:, others] + 0.3 * torch.eye(199).double(), truth[others]
    )
    expected = kernel[7, others] @ weights
    torch.testing.assert_close(left_out(kernel, truth, 0.3)[7], expected)


def test_quality_of_unseen_adapters_is_predicted_and_held():
    kernel, truth, seen = problem()
    predicted, half = predictions(kernel, truth, seen)
    found = torch.corrcoef(torch.stack([predicted[~seen], truth[~seen]]))
    assert float(found[0, 1]) > 0.7
    inside = ((predicted - truth).abs() <= half)[~seen].double()
    assert float(inside.mean()) == pytest.approx(0.9, abs=0.06)


def test_truth_of_unseen_adapters_is_not_read():
    kernel, truth, seen = problem()
    hidden = torch.where(seen, truth, torch.nan)
    first, second = (predictions(kernel, values, seen)[0] for values in (truth, hidden))
    torch.testing.assert_close(first, second)
