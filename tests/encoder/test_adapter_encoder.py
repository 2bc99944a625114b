from dataclasses import replace

import numpy as np
import pytest
import torch
from encoder_factories import tiny_encoder, tiny_features

from lora_gen.codec.roles import ROLES
from lora_gen.errors import GeneratorError
from lora_gen.models.adapter_encoder import AdapterEncoder, ModuleSet
from lora_gen.models.quality import QualityEnsemble, spread
from lora_gen.models.text_tower import segment_pool
from lora_gen.retrieval.base_frames import FRAMES_NAME, BaseFrames, main_directions
from lora_gen.retrieval.encoder import WeightEncoder, module_set, slots_of
from lora_gen.retrieval.features import NUM_SHAPE_FEATURES


def permuted(modules: ModuleSet, seed: int) -> ModuleSet:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(modules.mask.shape[1], generator=generator)
    return ModuleSet(**{name: value[:, order] for name, value in vars(modules).items()})


def padded(modules: ModuleSet, extra: int) -> ModuleSet:
    longer = {}
    for name, value in vars(modules).items():
        filler = torch.zeros(1, extra, *value.shape[2:], dtype=value.dtype)
        longer[name] = torch.cat([value, filler if name == "mask" else filler + 7], 1)
    return ModuleSet(**{**longer, "mask": longer["mask"].bool()})


def both(model: AdapterEncoder, modules: ModuleSet) -> tuple[torch.Tensor, torch.Tensor]:
    """(vector, qualities) of one adapter."""
    summary = model.summary(modules)
    return model.embed(modules, summary), model.quality(model.quality_input(summary, modules))


@pytest.mark.parametrize(("seed", "extra"), [(0, 0), (1, 3)])
def test_vector_ignores_order_and_padding_of_modules(seed: int, extra: int) -> None:
    model = tiny_encoder()
    modules = module_set(model, tiny_features(seed))
    expected, quality = both(model, modules)
    found, other_quality = both(model, padded(permuted(modules, seed), extra))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(other_quality, quality)


def test_vector_does_not_see_scale_and_quality_does() -> None:
    model = tiny_encoder()
    features = tiny_features()
    stronger = replace(features, scale=features.scale + 1)
    (vector, quality), (other, other_quality) = (
        both(model, module_set(model, f)) for f in (features, stronger)
    )
    torch.testing.assert_close(vector, other)
    assert float((quality - other_quality).abs().max()) > 1e-4


def test_quality_knows_whether_it_was_told_what_the_adapter_should_do() -> None:
    model = tiny_encoder()
    modules = module_set(model, tiny_features())
    summary = model.summary(modules)
    alone = model.quality_input(summary, modules)
    told = model.quality_input(summary, modules, torch.tensor([0.7]))
    assert told[0, -2:].tolist() == pytest.approx([1.0, 0.7])
    assert alone[0, -2:].tolist() == [0.0, 0.0]


def test_text_vector_ignores_padding_and_sees_single_tokens() -> None:
    model = tiny_encoder()
    states = torch.randn(1, 4, 7, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 4, dtype=torch.bool)
    longer = torch.cat([states, torch.full((1, 2, 7), 9.0)], 1)
    expected = model.embed_texts(states, mask)
    found = model.embed_texts(longer, torch.nn.functional.pad(mask, (0, 2)))
    torch.testing.assert_close(found, expected)
    assert float((model.embed_texts(states.flip(1), mask) - expected).abs().max()) > 1e-3


def test_frames_of_a_base_follow_its_main_directions_and_are_read_back(tmp_path) -> None:
    moment = torch.diag(torch.tensor([1.0, 9.0, 4.0]))
    frame = main_directions(moment, 2)
    torch.testing.assert_close(frame.abs(), torch.eye(3).double()[:, [1, 2]])
    BaseFrames({"m/in": frame}).save(tmp_path / FRAMES_NAME)
    again = BaseFrames.load(tmp_path / FRAMES_NAME)
    torch.testing.assert_close(again.of("m", "in", 3)[1], frame)
    assert again.of("m", "in", 5)[0] == "in/5"
    assert again.of("other", "in", 3)[0] == "in/3"


def test_damaged_frames_are_named(tmp_path) -> None:
    (tmp_path / FRAMES_NAME).write_bytes(b"broken")
    with pytest.raises(GeneratorError, match="holds no frames of a base"):
        BaseFrames.load(tmp_path / FRAMES_NAME)


@pytest.mark.parametrize(("target", "rank"), [("attention", 1), ("mlp", 8), (["q_proj"], 2)])
def test_any_modules_and_rank_give_one_unit_vector(target, rank) -> None:
    encoder = WeightEncoder(tiny_encoder())
    vector = encoder.embed(tiny_features(target=target, rank=rank))
    assert vector.shape == (encoder.width,)
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)


def test_segments_are_means_over_stretches_of_the_text() -> None:
    states = torch.arange(12.0).reshape(1, 6, 2).expand(2, -1, -1).clone()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    pooled = segment_pool(states, mask, 2)
    torch.testing.assert_close(pooled[0, 0], states[0].mean(0))
    torch.testing.assert_close(pooled[0, 1], states[0, :3].mean(0))
    torch.testing.assert_close(pooled[1, 2], states[1, 2:4].mean(0))


def test_slots_number_roles_and_depths_and_leave_unknown_roles_out() -> None:
    model = tiny_encoder(depth_bins=3)
    roles = torch.tensor([ROLES.index("q"), ROLES.index("v"), ROLES.index("conv")])
    side = torch.zeros(3, 20)
    side[1, NUM_SHAPE_FEATURES] = 1.0
    assert slots_of(model, roles, side).tolist() == [0, 8, -1]


def test_encoder_is_the_same_after_saving(tmp_path) -> None:
    encoder = WeightEncoder(tiny_encoder())
    encoder.model.save_pretrained(tmp_path)
    again = WeightEncoder.from_pretrained(tmp_path)
    assert again.fingerprint == encoder.fingerprint
    found, expected = (one.embed(tiny_features()) for one in (again, encoder))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_folder_without_an_encoder_is_refused(tmp_path) -> None:
    with pytest.raises(GeneratorError, match="so it is no trained adapter encoder"):
        WeightEncoder.from_pretrained(tmp_path)


def test_quality_lies_between_zero_and_one_and_disagreement_widens_it() -> None:
    torch.manual_seed(0)
    ensemble = QualityEnsemble(6, 4)
    found = ensemble(torch.randn(20, 6) * 10)
    assert found.shape == (20, 5)
    assert bool(((found >= 0) & (found <= 1)).all())
    assert spread(found[:1].expand(1, 5)).shape == (1,)
    assert bool((spread(found) >= 0.02).all())


def test_gradient_of_quality_does_not_reach_the_trunk() -> None:
    model: AdapterEncoder = tiny_encoder().train(True)
    both(model, module_set(model, tiny_features()))[1].sum().backward()
    assert all(p.grad is None for p in model.blocks.parameters())
