import pytest
import torch
from adapter_factories import random_adapter
from encoder_factories import tiny_spec

from lora_gen.errors import BaseModelError
from lora_gen.retrieval.anchors import WORDS, AnchorFrames
from lora_gen.retrieval.features import module_features

HIDDEN = 8


def frames(seed: int = 0, *, gain: float = 1.0, sketch: int = 4) -> AnchorFrames:
    generator = torch.Generator().manual_seed(seed)
    words = torch.randn(HIDDEN, len(WORDS), generator=generator)
    gains = {"model.layers.0.input_layernorm": torch.full((HIDDEN,), gain)}
    return AnchorFrames(words, gains, sketch=sketch)


def test_readers_see_the_gain_of_the_norm_before_them() -> None:
    name = "model.layers.0.self_attn.q_proj"
    once, twice = (frames(gain=gain).of(name, "in", HIDDEN) for gain in (1.0, 2.0))
    assert once[0] == "anchor/model.layers.0.input_layernorm"
    torch.testing.assert_close(twice[1], 2 * once[1])


def test_only_the_residual_stream_is_anchored() -> None:
    found = frames()
    assert found.of("model.layers.0.mlp.down_proj", "out", HIDDEN)[0] == "anchor/out"
    assert found.of("model.layers.0.mlp.down_proj", "in", 12)[0] == "in/12"
    assert found.of("model.layers.0.self_attn.q_proj", "out", HIDDEN)[0] == f"out/{HIDDEN}"


def test_rotated_base_gives_the_same_coordinates() -> None:
    # A base whose residual stream is rotated is the same base: anchors rotate with it.
    turn = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN).double())[0]
    words = torch.randn(HIDDEN, len(WORDS)).double()
    plain, turned = (AnchorFrames(w, {}, sketch=4) for w in (words, turn @ words))
    writes = torch.randn(HIDDEN).double()
    name = "model.layers.0.mlp.down_proj"
    torch.testing.assert_close(
        plain.of(name, "out", HIDDEN)[1].mT @ writes,
        turned.of(name, "out", HIDDEN)[1].mT @ (turn @ writes),
    )


def test_anchored_features_have_the_usual_shape() -> None:
    adapter = random_adapter(tiny_spec())
    assert module_features(adapter, frames()).sketches().shape == (14, 52)


def test_embedded_base_has_anchors() -> None:
    found = AnchorFrames.from_base("tiny_lm", sketch=8)
    key, frame = found.of("model.layers.1.mlp.up_proj", "in", len(found._frame))
    assert key == "anchor/model.layers.1.post_attention_layernorm"
    assert frame.shape == (len(found._frame), 8)
    assert torch.linalg.matrix_rank(frame) == 8


def test_base_without_an_embedding_is_refused(tmp_path) -> None:
    with pytest.raises(BaseModelError, match="has no token embedding in safetensors"):
        AnchorFrames.from_base(str(tmp_path))
