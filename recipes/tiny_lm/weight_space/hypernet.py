"""A hypernetwork of clients, the design of pFedHN (Shamsian et al., 2103.04628), on adapters.

Every client is an embedding; one network at the server makes its adapter of it. A client trains
that adapter on its own data for a few steps, and what these steps changed is the gradient that the
server passes back through the network: data never leave a client. A client that comes later gets an
embedding fitted to its data, the network frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.stacked import StackedFactors

_WIDTH, _HIDDEN, _SMALL = 32, 128, 1e-2


class ClientHypernetwork(nn.Module):
    """Embeddings of clients -> factors, as differences from one fresh adapter.

    Args:
        start: What every client's adapter is before anything was learned.
        clients: Number of clients.
        seed: Draws embeddings and weights.
    """

    def __init__(self, start: Adapter, clients: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embeddings = nn.Parameter(torch.randn(clients, _WIDTH))
            self.body = nn.Sequential(
                nn.Linear(_WIDTH, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU()
            )
            self.start: Mapping[str, tuple[Tensor, Tensor]] = {
                name: (pair.lora_a.float(), pair.lora_b.float())
                for name, pair in start.pairs.items()
            }
            self.sizes = [f.numel() for pair in self.start.values() for f in pair]
            self.head = nn.Linear(_HIDDEN, sum(self.sizes))
            nn.init.normal_(self.head.weight, std=_SMALL / _HIDDEN**0.5)
            nn.init.zeros_(self.head.bias)

    def forward(self, embeddings_BE: Tensor) -> StackedFactors:
        """Module -> (A (B, R, I), B (B, O, R))."""
        parts = iter(self.head(self.body(embeddings_BE)).split(self.sizes, 1))
        return {
            name: (a + next(parts).view(-1, *a.shape), b + next(parts).view(-1, *b.shape))
            for name, (a, b) in self.start.items()
        }


def pull(made: StackedFactors, trained: StackedFactors) -> Tensor:
    """A loss whose gradient by the made factors is what local training took away from them."""
    parts = [
        (mine * (mine - own).detach()).sum()
        for name in made
        for mine, own in zip(made[name], trained[name], strict=True)
    ]
    return torch.stack(parts).sum()


def detached(factors: StackedFactors) -> StackedFactors:
    """The same numbers, without what they came of."""
    return {name: (a.detach(), b.detach()) for name, (a, b) in factors.items()}


def at_center(network: ClientHypernetwork, count: int) -> Tensor:
    """Where embeddings of new clients start: the known clients' mean, (B, E)."""
    return network.embeddings.detach().mean(0).repeat(count, 1)


def drawn(source: torch.Generator, clients: int, count: int) -> Sequence[int]:
    """Clients of a round, none twice."""
    return [int(i) for i in torch.randperm(clients, generator=source)[:count]]
