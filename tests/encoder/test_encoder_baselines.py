import pytest
import torch

from lora_gen.assets import asset_path
from lora_gen.evaluation.encoder_baselines.data import load_factors
from lora_gen.evaluation.encoder_baselines.nets import (
    AccuracyReader,
    canonical_factors,
    directions_of,
    strengths,
)
from lora_gen.evaluation.encoder_baselines.run import (
    networks,
    predicted_accuracy,
    train_accuracy,
    train_network,
)
from lora_gen.zoo.store import Zoo

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


def canonical(count: int = 5) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    found = {}
    for name, (a, b) in factors(count).items():
        own = [canonical_factors(one_a, one_b, 4) for one_a, one_b in zip(a, b, strict=True)]
        found[name] = tuple(torch.stack(side) for side in zip(*own, strict=True))
    return found


def test_canonical_factors_give_the_delta_weight_and_its_directions_back() -> None:
    a, b = factors()["a.q_proj"]
    own_a, own_b = canonical()["a.q_proj"]
    torch.testing.assert_close(own_b @ own_a, b @ a, rtol=1e-4, atol=1e-4)
    u, sigma, v = directions_of(own_a, own_b)
    torch.testing.assert_close((u.mT * sigma[:, None]) @ v, b @ a, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(u[:, :3] @ u[:, :3].mT, torch.eye(3).expand(5, 3, 3))
    assert float(sigma[:, 3].abs().max()) == 0


def test_canonical_factors_do_not_see_the_gauge() -> None:
    a, b = (factor[0] for factor in factors()["a.q_proj"])
    gauge = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.3, 0.0, 1.0]])
    other = canonical_factors(torch.linalg.inv(gauge) @ a, b @ gauge, 3)
    for one, two in zip(canonical_factors(a, b, 3), other, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_token_reader_takes_adapters_that_lack_modules() -> None:
    torch.manual_seed(0)
    net = networks(SHAPES, 6)["singular-direction tokens (W2T)"]().train(False)
    some = {n: (a * (n != "a.k_proj"), b) for n, (a, b) in canonical().items()}
    with torch.no_grad():
        assert bool(net(some).isfinite().all())


def test_accuracy_reader_learns_its_few_adapters() -> None:
    torch.manual_seed(0)
    own, truth = canonical(), torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5])
    net = AccuracyReader(networks(SHAPES, 6)["GL-net"](), 6, len(SHAPES))
    before = net.state_dict()["head.1.weight"].clone()
    best = train_accuracy(net, own, truth, parts=(range(5), range(5)), steps=60)
    found = predicted_accuracy(net, own, strengths(own, range(5)), range(5))
    assert best["watched error"] < 0.1
    assert float((found - truth).square().mean()) == pytest.approx(best["watched error"], abs=1e-4)
    assert not torch.equal(before, net.state_dict()["head.1.weight"])


def test_factors_of_a_zoo_keep_its_delta_weights(tmp_path) -> None:
    folder = asset_path("tiny_lm", "zoo")
    with Zoo.open(folder, read_only=True) as zoo:
        ids = zoo.ids()[:2]
        pair = next(iter(sorted(zoo.load(ids[1]).pairs.items())))
    found, shapes = load_factors({folder: ids}, tmp_path)
    again, _ = load_factors({folder: ids}, tmp_path)
    name, own = pair
    a, b = (factor.float() for factor in own.matrices())
    delta = own.scaling * b @ a
    torch.testing.assert_close(
        found[name][1][1].float() @ found[name][0][1].float(), delta, rtol=0.01, atol=2e-3
    )
    assert shapes[name] == tuple(delta.shape)
    assert torch.equal(again[name][0], found[name][0])


@pytest.mark.parametrize("name", NAMES)
def test_network_learns_its_few_adapters(name: str) -> None:
    torch.manual_seed(0)
    net = networks(SHAPES, 6)[name]()
    losses = train_network(net, canonical(), range(5), torch.eye(6)[:5], steps=30)
    assert losses[-1] < losses[0]
