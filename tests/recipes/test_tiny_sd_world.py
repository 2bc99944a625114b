from __future__ import annotations

import random

import pytest
import torch

from recipes.tiny_sd.tokenizer import MAX_TOKENS, STYLIZED, build_tokenizer
from recipes.tiny_sd.world.primitive import primitives, wordings
from recipes.tiny_sd.world.scenes import draw, draw_scene
from recipes.tiny_sd.world.styles import (
    HELD_OUT_ARGUMENTS,
    HELD_OUT_PRIMITIVES,
    Style,
    all_styles,
    make_splits,
    styles_by_name,
)

RNG = random.Random(0)
SCENES = [draw_scene(RNG) for _ in range(24)]
PICTURES = draw(SCENES)


def test_pictures_have_a_background_in_every_corner_and_things_elsewhere() -> None:
    assert PICTURES.shape == (24, 3, 32, 32)
    assert float(PICTURES.min()) >= 0
    assert float(PICTURES.max()) <= 1
    corners = PICTURES[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, corners[:, :, :1].expand_as(corners))
    assert all(float(picture.std()) > 0.02 for picture in PICTURES)


def test_captions_say_what_is_there() -> None:
    for scene in SCENES:
        assert all(thing.color in scene.caption for thing in scene.things)
        assert all(thing.shape in scene.caption for thing in scene.things)
        assert (scene.background in scene.caption) or scene.background == "white"


@pytest.mark.parametrize("part", primitives(), ids=lambda part: part.name)
def test_a_primitive_changes_pictures_and_repeats_itself(part: object) -> None:
    style = Style("one", (part,))  # type: ignore[arg-type]
    styled = style(PICTURES)
    assert styled.shape == PICTURES.shape
    assert styled.isfinite().all()
    assert float((styled - PICTURES).abs().mean()) > 0.004
    assert torch.equal(styled, style(PICTURES))


def test_every_family_has_eight_wordings_for_training_and_two_held_out() -> None:
    assert {part.family for part in primitives()} == set(wordings())
    for style in (Style("one", (part,)) for part in primitives()):
        assert len(style.descriptions(8)) == 8
        held_out = set(style.descriptions(2, held_out=True))
        assert len(held_out) == 2
        assert not held_out & set(style.descriptions(99))


def test_styles_are_many_and_every_one_is_in_one_split() -> None:
    splits = make_splits()
    names = [name for split in splits.values() for name in split]
    assert len(names) == len(set(names)) == len(all_styles()) >= 240
    assert set(names) == set(styles_by_name())
    assert min(len(found) for found in splits.values()) >= 30


def test_nothing_that_is_held_out_is_seen() -> None:
    seen = [styles_by_name()[name] for name in make_splits()["seen"]]
    parts = {part for style in seen for part in style.parts}
    assert not {part.family for part in parts} & set(HELD_OUT_PRIMITIVES)
    assert not {(p.family, p.argument) for p in parts} & set(HELD_OUT_ARGUMENTS.items())
    compositions = make_splits()["unseen_composition"]
    assert {p for name in compositions for p in styles_by_name()[name].parts} <= parts


def test_every_word_of_a_caption_is_one_token() -> None:
    tokenizer = build_tokenizer()
    captions = [f"{scene.caption}, {STYLIZED}" for scene in SCENES]
    for caption in captions:
        ids = tokenizer(caption).input_ids
        assert len(ids) == len(caption.replace(",", " ,").split()) + 2 <= MAX_TOKENS
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ,", ",") == caption
    assert len(tokenizer("Quizzical éclair 7").input_ids) > 3
