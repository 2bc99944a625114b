import pytest
import torch

from lora_gen.evaluation.encoder_baselines.nets import singular_directions
from lora_gen.evaluation.encoder_baselines.run import networks, train_network

SHAPES = {"a.q_proj": (10, 8), "a.k_proj": (8, 8), "a.down_proj": (8, 12)}
NAMES = tuple(networks(SHAPES, 6))


def factors(count: int = 5, rank: int = 3) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: (
            torch.randn(count, rank, i, generator=generator),
            torch.randn(count, o, rank, generator=generator),
        )
        for name, (o, i) in SHAPES.items()
    }


@pytest.mark.parametrize("name", [n for n in NAMES if "tokens" not in n])
def test_reader_does_not_see_the_gauge(name: str) -> None:
    torch.manual_seed(0)
    net = networks(SHAPES, 6)[name]().train(False)
    gauge = torch.linalg.qr(torch.randn(3, 3))[0] * torch.tensor([1.0, 2.0, 0.5])
    other = {n: (torch.linalg.inv(gauge) @ a, b @ gauge) for n, (a, b) in factors().items()}
    torch.testing.assert_close(net(other), net(factors()), rtol=1e-3, atol=1e-4)


def test_singular_directions_give_the_delta_weight_back() -> None:
    a, b = factors()["a.q_proj"]
    u, sigma, v = singular_directions(a, b)
    torch.testing.assert_close((u.mT * sigma[:, None]) @ v, b @ a, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_network_learns_its_few_adapters(name: str) -> None:
    torch.manual_seed(0)
    net = networks(SHAPES, 6)[name]()
    losses = train_network(net, factors(), range(5), torch.eye(6)[:5], steps=30)
    assert losses[-1] < losses[0]
