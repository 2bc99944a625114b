"""Scale of tokens: direction and log size apart, so that the size is carried and never lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lora_gen.codec.roles import ROLES

MIN_RMS = 1e-8
"""A chunk below this is zero: its direction is zero and its log size is the floor."""
MAX_SCORE = 8.0
"""Standard deviations that a decoded size may lie from its mean; a wild sample cannot overflow."""


@dataclass(frozen=True, kw_only=True)
class TokenScaling:
    """Mean and spread of the log sizes that a generator was trained on.

    A token is (chunk / rms, (log rms - mean[role, side]) / std): `width` values of unit root mean
    square and one score.
    """

    log_means: Mapping[str, float] = field(default_factory=dict)
    """`role/side` -> mean of log rms; side is `A` or `B`."""
    default_log_mean: float = -2.5
    """For roles that the zoo did not have."""
    log_std: float = 0.5

    def mean_of_slots(self, slot_roles_N: Tensor) -> Tensor:
        """Mean log rms for each token, (N,)."""
        table = [
            self.log_means.get(f"{role}/{side}", self.default_log_mean)
            for role in ROLES
            for side in "AB"
        ]
        return torch.tensor(table, device=slot_roles_N.device)[slot_roles_N]

    def split(self, chunks_BND: Tensor, mask_ND: Tensor, slot_roles_N: Tensor) -> Tensor:
        """Weights to tokens: (…, N, D) -> (…, N, D + 1)."""
        mean_square = (chunks_BND * mask_ND).square().sum(-1) / mask_ND.sum(-1)
        rms_BN = mean_square.sqrt()
        safe_BN = rms_BN.clamp_min(MIN_RMS)
        score_BN = (safe_BN.log() - self.mean_of_slots(slot_roles_N)) / self.log_std
        direction_BND = torch.where(
            rms_BN[..., None] > MIN_RMS, chunks_BND / safe_BN[..., None], 0.0
        )
        return torch.cat([direction_BND, score_BN[..., None]], -1)

    def join(self, tokens_BND: Tensor, slot_roles_N: Tensor) -> Tensor:
        """Tokens to weights: (…, N, D + 1) -> (…, N, D)."""
        floor = (torch.tensor(MIN_RMS).log() - self.mean_of_slots(slot_roles_N)) / self.log_std
        score_BN = tokens_BND[..., -1].clamp_max(MAX_SCORE).maximum(floor)
        size_BN = (score_BN * self.log_std + self.mean_of_slots(slot_roles_N)).exp()
        return tokens_BND[..., :-1] * size_BN[..., None]

    def times(self, strength: float) -> TokenScaling:
        """The same tokens as adapters `strength` times as strong: every B is that much larger."""
        if strength == 1.0:
            return self
        log = math.log(strength)
        names = [f"{role}/{side}" for role in ROLES for side in "AB"]
        means = {name: self.log_means.get(name, self.default_log_mean) for name in names}
        louder = {name: mean + log * name.endswith("B") for name, mean in means.items()}
        return replace(self, log_means=louder)

    @classmethod
    def fit(cls, samples: Iterable[tuple[Tensor, Tensor, Tensor]]) -> TokenScaling:
        """Scaling of a zoo.

        Args:
            samples: For each adapter: chunks (N, D), value mask (N, D), slot roles (N,).

        Returns:
            Means by role and side, and one common standard deviation, over chunks that are not
                zero.
        """
        sums: dict[int, list[float]] = {}
        total, square, count = 0.0, 0.0, 0
        for chunks_ND, mask_ND, roles_N in samples:
            rms_N = ((chunks_ND * mask_ND).square().sum(-1) / mask_ND.sum(-1)).sqrt()
            for role, value in zip(roles_N.tolist(), rms_N.tolist(), strict=True):
                if value > MIN_RMS:
                    log = float(torch.tensor(value).log())
                    entry = sums.setdefault(role, [0.0, 0.0, 0.0])
                    entry[0] += log
                    entry[1] += log * log
                    entry[2] += 1
        if not sums:
            return cls()
        means = {role: s / n for role, (s, _, n) in sums.items()}
        total = sum(s for s, _, _ in sums.values())
        count = int(sum(n for _, _, n in sums.values()))
        square = sum(q - s * s / n for s, q, n in sums.values())
        names = {
            f"{ROLES[role // 2]}/{'AB'[role % 2]}": round(mean, 6) for role, mean in means.items()
        }
        std = max((square / count) ** 0.5, 1e-3)
        return cls(log_means=names, default_log_mean=round(total / count, 6), log_std=round(std, 6))
