from __future__ import annotations

import pytest
import torch
from adapter_factories import dense_vector, small_adapter
from weight_space_factories import regauged

from lora_gen.adapter.algebra import inner_product, norm
from lora_gen.errors import AdapterMismatchError, AdapterValueError, ConfigError
from lora_gen.weight_space.augment import (
    AugmentConfig,
    augmented,
    mixed,
    noised,
    with_modules_dropped,
)
from lora_gen.weight_space.edit import (
    alignment,
    direction_between,
    edit_adapter,
    interpolated,
    principal_direction,
    without_direction,
)
from lora_gen.weight_space.federate import average_factors, federate_adapters
from lora_gen.weight_space.merge import merge_adapters


def zoo(count: int, first: int = 0) -> list:
    return [small_adapter(first + seed, rank=2) for seed in range(count)]


def test_direction_is_the_difference_of_the_means():
    having, lacking = zoo(3), zoo(2, first=10)
    found = direction_between(having, lacking, rank=9)
    means = [sum(dense_vector(a) for a in side) / len(side) for side in (having, lacking)]
    torch.testing.assert_close(dense_vector(found), means[0] - means[1], atol=1e-9, rtol=0)


def test_an_edit_is_the_same_in_any_gauge_and_nothing_at_strength_zero():
    adapter, direction = small_adapter(0), direction_between(zoo(2, 5), zoo(2, 8))
    one, two = (edit_adapter(a, direction, 0.7, rank=3) for a in (adapter, regauged(adapter, 4)))
    torch.testing.assert_close(
        dense_vector(one.adapter), dense_vector(two.adapter), atol=1e-7, rtol=0
    )
    assert edit_adapter(adapter, direction, 0.0).adapter is adapter


def test_taking_a_direction_out_leaves_nothing_along_it():
    adapter, direction = small_adapter(0), small_adapter(1)
    left = without_direction(adapter, direction).adapter
    assert inner_product(left, direction) == pytest.approx(0, abs=1e-9)
    assert alignment([left], direction) == [pytest.approx(0, abs=1e-9)]


def test_interpolation_begins_and_ends_at_the_adapters():
    one, two = zoo(2)
    for share, end in ((0.0, one), (1.0, two)):
        torch.testing.assert_close(
            dense_vector(interpolated(one, two, share).adapter), dense_vector(end)
        )


def test_principal_direction_separates_the_classes_it_was_fitted_to():
    planted = small_adapter(99, rank=1)
    lacking = zoo(6)
    having = [merge_adapters([a, planted], [1.0, 2.0]).adapter for a in zoo(6, first=20)]
    direction = principal_direction(having, lacking, rank=9)
    assert min(alignment(having, direction)) > max(alignment(lacking, direction))
    between = direction_between(having, lacking, rank=9)
    assert norm(direction) == pytest.approx(norm(between), rel=0.05)


def test_a_direction_needs_both_sides():
    with pytest.raises(AdapterMismatchError, match=r"and has 2 and 0\. Choose another attribute"):
        direction_between(zoo(2), [])


def test_federation_is_the_weighted_mean_of_deltas_at_any_ranks():
    clients = [small_adapter(seed, rank=1 + seed) for seed in range(3)]
    merged = federate_adapters(clients, [10, 30, 60]).adapter
    expected = sum(w * dense_vector(c) for w, c in zip((0.1, 0.3, 0.6), clients, strict=True))
    torch.testing.assert_close(dense_vector(merged), expected, atol=1e-9, rtol=0)


def test_factor_averages_depend_on_the_gauge_where_federation_does_not():
    clients = zoo(2)
    other = [clients[0], regauged(clients[1], 1)]
    exact = [dense_vector(federate_adapters(c, [1, 1]).adapter) for c in (clients, other)]
    naive = [dense_vector(average_factors(c, [1, 1])) for c in (clients, other)]
    torch.testing.assert_close(exact[0], exact[1], atol=1e-9, rtol=0)
    assert float((naive[0] - naive[1]).norm() / naive[0].norm()) > 0.1
    same = average_factors([clients[0], clients[0]], [1, 3])
    torch.testing.assert_close(dense_vector(same), dense_vector(clients[0]))


def test_federation_refuses_sizes_that_are_no_shares():
    with pytest.raises(AdapterValueError, match=r"`sizes` must be numbers of examples"):
        federate_adapters(zoo(2), [0, 0])
    with pytest.raises(AdapterMismatchError, match=r"`sizes` has 1 numbers for 2 clients"):
        average_factors(zoo(2), [1])


def test_noise_has_the_size_asked_for():
    adapter, generator = small_adapter(0, rank=3), torch.Generator().manual_seed(0)
    errors = [
        float((dense_vector(noised(adapter, 0.1, generator)) - dense_vector(adapter)).norm())
        for _ in range(50)
    ]
    assert sum(errors) / len(errors) / norm(adapter) == pytest.approx(0.1, rel=0.35)


def test_dropping_and_mixing_keep_what_they_promise():
    one, two = zoo(2)
    generator = torch.Generator().manual_seed(0)
    assert len(with_modules_dropped(one, 0.99, generator).pairs) == 1
    middle = mixed(one, two, 0.5)
    assert norm(middle) == pytest.approx(norm(one))
    assert middle.max_rank == one.max_rank


def test_augmentation_repeats_with_its_seed_and_is_the_adapter_without_changes():
    adapter = small_adapter(0, rank=4)
    config = AugmentConfig(min_rank=1, noise=0.1, bits=8, drop=0.2, jitter=0.1, mix=0.3)
    one, two = (
        augmented(adapter, config, torch.Generator().manual_seed(3), others=zoo(2))
        for _ in range(2)
    )
    torch.testing.assert_close(dense_vector(one), dense_vector(two))
    assert augmented(adapter, AugmentConfig(), torch.Generator()) is adapter
    with pytest.raises(ConfigError, match=r"`noise` is 1\.5; it must be from 0 below 1"):
        AugmentConfig(noise=1.5)
