"""Which adapters to look at first: how far their spectra lie from those of the same base.

Statistics of weights rank suspects and clear nobody: a backdoor can look like any other adapter,
and an honest adapter of an unusual task can look like none. `tests/corpus/poisoned.py` measures
how often a planted one comes first.

Only singular values of each module's delta weight are read, by r-by-r algebra, so another gauge of
the factors changes nothing.

Shapes: B adapters, M modules, F features of a module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import singular_values
from lora_gen.adapter.io import load_adapter
from lora_gen.errors import ZooError
from lora_gen.zoo import content
from lora_gen.zoo.store import Zoo

MIN_PEERS = 20
"""Adapters of the same base that are needed for a comparison to mean anything."""

WARNING = (
    "The order says where to look first, not who is guilty, and it clears nobody: a backdoor can "
    "look like any other adapter. Measure what an adapter does before you serve it."
)
FEATURES = ("size", "concentration", "evenness", "share")
"""Of one module: log norm; log share of the largest singular value; entropy of the spectrum; log
share in the adapter's whole change."""

_CAP = 30.0
"""Deviations beyond it count as it: one absurd value must not hide the others."""

_SMALLEST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """How unusual one adapter is among those of its base; low is no proof of anything."""

    score: float
    """Robust standard deviations from the peers' own unusualness; above 3 few of them lie."""

    beyond: float
    """Share of the peers that are less unusual, 0 to 1."""

    reasons: tuple[str, ...]
    """What stands out, strongest first, in words."""


class Peers:
    """What adapters of one base usually look like.

    Args:
        adapters: At least `MIN_PEERS` of the same base.

    Raises:
        ZooError: There are fewer.
    """

    def __init__(self, adapters: Iterable[Adapter]) -> None:
        spectra = [_features(adapter) for adapter in adapters]
        if len(spectra) < MIN_PEERS:
            raise ZooError(
                f"{len(spectra)} adapters of this base are too few to compare with: {MIN_PEERS} "
                "are needed. Add adapters that you trust, or measure what this one does."
            )
        counted = Counter(name for found in spectra for name in found)
        self._modules = tuple(sorted(n for n, k in counted.items() if 2 * k > len(spectra)))
        values_BMF = torch.stack([self._table(found) for found in spectra])
        self._middle_MF = values_BMF.nanmedian(0).values
        spread_MF = (values_BMF - self._middle_MF).abs().nanmedian(0).values
        self._spread_MF = (1.4826 * spread_MF).clamp_min(0.02)
        own = [self._unusual(found) for found in spectra]
        self._own_BS = torch.stack([statistics for statistics, _ in own]).log()
        self._usual_S = self._own_BS.median(0).values
        width_S = (self._own_BS - self._usual_S).abs().median(0).values
        self._width_S = (1.4826 * width_S).clamp_min(0.02)
        self._own_scores = self._scores(self._own_BS)

    def judge(self, adapter: Adapter) -> Suspicion:
        """How unusual `adapter` is, whether it is one of the peers or not."""
        found = _features(adapter)
        statistics_S, deviations_MF = self._unusual(found)
        score = float(self._scores(statistics_S.log()[None])[0])
        beyond = float((self._own_scores < score).double().mean())
        return Suspicion(score=score, beyond=beyond, reasons=self._reasons(found, deviations_MF))

    def _scores(self, logs_BS: Tensor) -> Tensor:
        """The most unusual of the statistics, each in the peers' own robust deviations, (B,)."""
        return ((logs_BS - self._usual_S) / self._width_S).amax(1)

    def _table(self, found: Mapping[str, Tensor]) -> Tensor:
        """Features of the usual modules, NaN where the adapter has none, (M, F)."""
        absent = torch.full((len(FEATURES),), float("nan"), dtype=torch.float64)
        return torch.stack([found.get(name, absent) for name in self._modules])

    def _unusual(self, found: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(root mean square over all modules and of the worst one, (2,); deviations (M, F))."""
        deviations_MF = (self._table(found) - self._middle_MF) / self._spread_MF
        deviations_MF = deviations_MF.clamp(-_CAP, _CAP).nan_to_num(_CAP)
        strange = len(set(found) - set(self._modules))
        squares_M = deviations_MF.square().mean(1)
        squares_M = torch.cat([squares_M, squares_M.new_full((strange,), _CAP**2)])
        return torch.stack([squares_M.mean().sqrt(), squares_M.max().sqrt()]), deviations_MF

    def _reasons(self, found: Mapping[str, Tensor], deviations_MF: Tensor) -> tuple[str, ...]:
        strange = sorted(set(found) - set(self._modules))
        missing = [name for name in self._modules if name not in found]
        reasons = [f"changes `{name}`, which its peers leave alone" for name in strange[:2]]
        reasons += [f"leaves `{name}` alone, which its peers change" for name in missing[:2]]
        order = deviations_MF.abs().flatten().argsort(descending=True).tolist()
        for place in order[:3]:
            module, feature = divmod(place, len(FEATURES))
            name, value = self._modules[module], float(deviations_MF[module, feature])
            if name in found:
                side = "above" if value > 0 else "below"
                reasons.append(
                    f"{FEATURES[feature]} of `{name}` lies {abs(value):.1f} deviations {side}"
                )
        return tuple(reasons[:3])


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """One adapter of the ranking."""

    name: str
    """Id of an entry, or the path of a file."""
    state: str
    """`served`, `quarantined`, or `not added`."""
    base: str
    """The base it is compared on."""
    score: float
    """See `Suspicion`; so are the next two."""
    beyond: float
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The suspect as JSON data."""
        return {**asdict(self), "reasons": list(self.reasons)}


def judge_zoo(zoo: Zoo, *, base: str | None = None, others: Sequence[Path] = ()) -> list[Suspect]:
    """Entries, entries in quarantine and other adapters of one base, the most unusual first.

    Only served entries are what the others are compared with.

    Args:
        zoo: The zoo.
        base: Which base; needed where the zoo has several.
        others: Adapters that are not in the zoo.

    Raises:
        ZooError: There are too few entries, or several bases and none is named.
        LoraGenError: An adapter of `others` is unusable, or for another base.
    """
    chosen = base or _only_base(zoo)
    named = {(i, "served"): zoo.load(i) for i in zoo.ids(base=chosen)}
    peers = Peers(named.values())
    for entry_id in zoo.guard.quarantined():
        adapter = content.read(zoo.folders.path_of(entry_id), entry_id)
        if adapter.base == chosen:
            named[entry_id, "quarantined"] = adapter
    for path in others:
        adapter = load_adapter(path)
        if adapter.base not in (None, chosen):
            raise ZooError(
                f"`{path}` is for `{adapter.base}`, and is compared with adapters of `{chosen}`. "
                "Name another zoo, or another `--base`."
            )
        named[str(path), "not added"] = adapter
    found = [
        Suspect(name=name, state=state, base=chosen, **vars(peers.judge(adapter)))
        for (name, state), adapter in named.items()
    ]
    return sorted(found, key=lambda one: -one.score)


def _only_base(zoo: Zoo) -> str:
    bases = sorted({entry.base for entry in zoo.entries()})
    if len(bases) != 1:
        raise ZooError(
            f"`{zoo.folder}` has adapters of {len(bases)} bases ({', '.join(bases[:3])}). Name one "
            "with `--base`."
            if bases
            else f"`{zoo.folder}` has no entries, so there is nothing to compare with."
        )
    return bases[0]


def _features(adapter: Adapter) -> dict[str, Tensor]:
    """Module path -> its features, (F,)."""
    spectra = {name: s.cpu() for name, s in singular_values(adapter).items()}
    total = sum(float(s.square().sum()) for s in spectra.values())
    return {name: _of_spectrum(s, total) for name, s in spectra.items()}


def _of_spectrum(singular_R: Tensor, total: float) -> Tensor:
    energy_R = singular_R.double().square()
    own = energy_R.sum().clamp_min(_SMALLEST)
    parts_R = (energy_R / own).clamp_min(_SMALLEST)
    size = 0.5 * own.log()
    share = (own / max(total, _SMALLEST)).clamp_min(_SMALLEST).log()
    return torch.stack([size, parts_R.max().log(), -(parts_R * parts_R.log()).sum(), share])
