"""Styles by description: what is learned from weights, and how queries are compared with it."""

import torch

from recipes.tiny_sd.retrieval import predicted_kernel, predicted_texts, ranks


def _vectors(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).double()


def _kernel(vectors: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(vectors, dim=1)
    return unit @ unit.T


def test_inner_products_say_the_same_as_the_vectors_they_come_from() -> None:
    weights, asked = _vectors(20, 40, 0), _vectors(20, 6, 1)
    seen = torch.arange(20) < 12
    predicted = predicted_texts(_kernel(weights), asked, seen)
    queries = torch.nn.functional.normalize(asked - asked[seen].mean(0), dim=1)
    found = predicted_kernel(_kernel(weights), asked @ asked.T, seen)
    torch.testing.assert_close(found, queries @ predicted.T)


def test_a_style_is_found_where_weights_follow_what_was_asked() -> None:
    asked = _vectors(40, 5, 0)
    weights = asked @ _vectors(5, 60, 1)
    seen = torch.arange(40) < 30
    found = ranks(predicted_kernel(_kernel(weights), asked @ asked.T, seen))
    assert (found[30:] < 3).all()


def test_nothing_is_found_where_weights_do_not_follow() -> None:
    seen = torch.arange(200) < 150
    asked = _vectors(200, 5, 0)
    found = ranks(predicted_kernel(_kernel(_vectors(200, 60, 1)), asked @ asked.T, seen))
    assert found[150:].double().mean() > 50


def test_unseen_rows_are_never_learned_from() -> None:
    seen, asked = torch.arange(20) < 12, _vectors(20, 6, 1)
    kernel, products = _kernel(_vectors(20, 40, 0)), asked @ asked.T
    changed = products.clone()
    changed[12:, :12] = 7.0
    torch.testing.assert_close(
        predicted_kernel(kernel, products, seen)[:12], predicted_kernel(kernel, changed, seen)[:12]
    )
