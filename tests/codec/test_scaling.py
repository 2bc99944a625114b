from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lora_gen.codec.roles import ROLES
from lora_gen.codec.scaling import MAX_SCORE, MIN_RMS, TokenScaling

SCALING = TokenScaling(log_means={"q/A": -1.0, "q/B": -3.0}, default_log_mean=-2.0, log_std=0.5)
Q_A, Q_B, OTHER = 0, 1, 2 * ROLES.index("other")
ROLES_N = torch.tensor([Q_A, Q_B, OTHER])
MASK = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]])


def _chunks(seed: int = 0) -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) * MASK


def test_scaling_join_undoes_split() -> None:
    chunks = _chunks()
    tokens = SCALING.split(chunks, MASK, ROLES_N)
    torch.testing.assert_close(SCALING.join(tokens, ROLES_N), chunks)


def test_scaling_directions_have_unit_root_mean_square_over_weights_alone() -> None:
    tokens = SCALING.split(_chunks(), MASK, ROLES_N)
    mean_square = tokens[:, :-1].square().sum(1) / MASK.sum(1)
    torch.testing.assert_close(mean_square, torch.ones(3))


def test_scaling_score_is_zero_at_the_mean_of_the_role_and_side() -> None:
    sizes = torch.tensor([-1.0, -3.0, -2.0]).exp()
    tokens = SCALING.split(sizes[:, None] * MASK, MASK, ROLES_N)
    torch.testing.assert_close(tokens[:, -1], torch.zeros(3), atol=1e-6, rtol=0)


def test_scaling_of_zero_chunks_is_finite_and_comes_back_as_zero() -> None:
    tokens = SCALING.split(torch.zeros(3, 4), MASK, ROLES_N)
    assert bool(tokens.isfinite().all())
    assert not SCALING.join(tokens, ROLES_N).any()


@pytest.mark.parametrize("score", [1e9, 1e30, torch.inf])
def test_scaling_clamps_a_wild_score(score: float) -> None:
    tokens = torch.cat([torch.ones(3, 4), torch.full((3, 1), score)], 1)
    wanted = (MAX_SCORE * 0.5 + torch.tensor([-1.0, -3.0, -2.0])).exp()
    torch.testing.assert_close(SCALING.join(tokens, ROLES_N)[:, 0], wanted)


@pytest.mark.parametrize("score", [-1e9, -torch.inf])
def test_scaling_clamps_a_score_below_the_floor(score: float) -> None:
    tokens = torch.cat([torch.ones(3, 4), torch.full((3, 1), score)], 1)
    found = SCALING.join(tokens, ROLES_N)[:, 0]
    torch.testing.assert_close(found, torch.full((3,), MIN_RMS), rtol=1e-4, atol=0)


def test_scaling_fit_finds_means_by_role_and_side_and_one_spread() -> None:
    source = torch.Generator().manual_seed(0)
    roles = torch.tensor([Q_A, Q_B]).repeat(2_000)
    means = torch.tensor([-1.0, -3.0]).repeat(2_000)
    sizes = (means + 0.25 * torch.randn(4_000, generator=source)).exp()
    found = TokenScaling.fit([(sizes[:, None].expand(-1, 4), torch.ones(4_000, 4), roles)])
    assert found.log_means == pytest.approx({"q/A": -1.0, "q/B": -3.0}, abs=0.03)
    assert found.log_std == pytest.approx(0.25, abs=0.02)
    assert found.default_log_mean == pytest.approx(-2.0, abs=0.03)


def test_scaling_fit_leaves_zero_chunks_out() -> None:
    chunks = torch.cat([_chunks(), torch.zeros(3, 4)])
    mask, roles = MASK.repeat(2, 1), ROLES_N.repeat(2)
    assert TokenScaling.fit([(chunks, mask, roles)]) == TokenScaling.fit(
        [(_chunks(), MASK, ROLES_N)]
    )


def test_scaling_fit_of_nothing_is_the_default() -> None:
    assert TokenScaling.fit([(torch.zeros(3, 4), MASK, ROLES_N)]) == TokenScaling()
    assert math.isfinite(TokenScaling().log_std)


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])
def test_scaling_times_makes_every_b_that_much_larger_and_leaves_a(strength: float) -> None:
    tokens = SCALING.split(_chunks(), MASK, ROLES_N)
    wanted = _chunks() * torch.tensor([1.0, strength, 1.0])[:, None]  # only the second row is a B
    torch.testing.assert_close(SCALING.times(strength).join(tokens, ROLES_N), wanted)
