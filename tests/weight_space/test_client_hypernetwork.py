"""A hypernetwork of clients learns from what local training changed, and fits new clients."""

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from recipes.tiny_lm.weight_space.hypernet import (
    ClientHypernetwork,
    at_center,
    detached,
    drawn,
    pull,
)

RANK, IN, OUT, CLIENTS = 2, 5, 4, 6


def _network() -> ClientHypernetwork:
    a = torch.randn(RANK, IN, generator=torch.Generator().manual_seed(0))
    pair = LoraPair(lora_a=a, lora_b=torch.zeros(OUT, RANK))
    return ClientHypernetwork(Adapter(pairs={"x.q_proj": pair, "y.q_proj": pair}), CLIENTS)


def test_every_client_starts_near_the_fresh_adapter() -> None:
    network = _network()
    made = network(network.embeddings)
    assert made["x.q_proj"][0].shape == (CLIENTS, RANK, IN)
    assert made["y.q_proj"][1].shape == (CLIENTS, OUT, RANK)
    assert made["x.q_proj"][1].abs().max() < 0.05


def test_pull_has_the_gradient_that_local_training_took_away() -> None:
    made = {"x": (torch.randn(2, 3, requires_grad=True), torch.randn(3, 2, requires_grad=True))}
    trained = {"x": (made["x"][0].detach() - 0.5, made["x"][1].detach() + 1.0)}
    pull(made, trained).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(made["x"][0].grad, torch.full((2, 3), 0.5))
    torch.testing.assert_close(made["x"][1].grad, torch.full((3, 2), -1.0))


def test_server_steps_bring_the_adapter_to_what_clients_trained() -> None:
    network = _network()
    wanted = detached(network(network.embeddings))
    goal = {name: (a + 0.1, b - 0.2) for name, (a, b) in wanted.items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        pull(network(network.embeddings), goal).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    torch.testing.assert_close(
        network(network.embeddings)["x.q_proj"][1], goal["x.q_proj"][1], atol=0.05, rtol=0
    )


def test_new_clients_start_at_the_known_ones_mean() -> None:
    network = _network()
    assert torch.equal(at_center(network, 3)[2], network.embeddings.detach().mean(0))


def test_clients_of_a_round_are_different_ones() -> None:
    chosen = drawn(torch.Generator().manual_seed(0), 10, 6)
    assert len(set(chosen)) == 6
    assert set(chosen) <= set(range(10))
