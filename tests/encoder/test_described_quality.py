import pytest
import torch

from lora_gen.errors import GeneratorError
from lora_gen.models.described_quality import DescribedEnsemble
from lora_gen.retrieval.described import load_described, save_described
from training.encoder_described import DescribedRows, fit_described

WIDTH, OTHER = 8, 3


def rows(count: int, seed: int) -> DescribedRows:
    """Adapters that do what they do well or badly, a third of them described as something else."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(count, WIDTH, generator=generator), dim=-1)
    other = torch.randn(count, OTHER, generator=generator)
    right = torch.arange(count) % 3 > 0
    return DescribedRows(
        alone=torch.cat([vectors, other], 1),
        texts=torch.where(right[:, None], vectors, vectors.roll(1, 0)),
        truth=torch.sigmoid(3 * other[:, 0]) * right,
    )


@pytest.fixture(scope="module")
def ensemble() -> DescribedEnsemble:
    return fit_described(rows(600, 0), rows(300, 1), halves=True, steps=250, cover=0.9, seed=0)


def said(ensemble: DescribedEnsemble, held: DescribedRows) -> torch.Tensor:
    return ensemble(held.alone, held.vectors, held.texts).mean(1)


def test_wrong_description_makes_a_good_adapter_worthless(ensemble) -> None:
    held = rows(300, 2)
    good = (held.alone[:, WIDTH] > 1) & (torch.arange(300) % 3 > 0)
    right, wrong = said(ensemble, held), said(ensemble, DescribedRows(**moved(held)))
    assert float(right[good].mean()) > 0.7
    assert float(wrong[good].mean()) < 0.35


def moved(held: DescribedRows) -> dict[str, torch.Tensor]:
    return {"alone": held.alone, "texts": held.vectors.roll(1, 0), "truth": held.truth}


def test_weak_adapter_stays_weak_whatever_the_description(ensemble) -> None:
    held = rows(300, 2)
    assert float(said(ensemble, held)[held.alone[:, WIDTH] < -1].mean()) < 0.2


def test_half_of_the_members_do_not_read_the_vector(ensemble) -> None:
    held = rows(4, 3)
    alone = held.alone.clone()
    alone[:, :WIDTH] = 0
    full, blind = (ensemble(x, held.vectors, held.texts) for x in (held.alone, alone))
    assert torch.equal(full[:, 1::2], blind[:, 1::2])
    assert not torch.allclose(full[:, ::2], blind[:, ::2])


def test_file_gives_the_same_predictions_back(ensemble, tmp_path) -> None:
    held, path = rows(50, 4), tmp_path / "described.safetensors"
    save_described(ensemble, path)
    other = load_described(path)
    torch.testing.assert_close(said(other, held), said(ensemble, held), atol=0.01, rtol=0)
    assert torch.isfinite(other.reach).all()


def test_damaged_file_is_told(tmp_path) -> None:
    path = tmp_path / "described.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(GeneratorError, match="holds no quality of described adapters"):
        load_described(path)
