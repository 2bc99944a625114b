from __future__ import annotations

from typing import Any

import pytest
import torch
from adapter_factories import merged
from picture_factories import picture_base, random_picture_adapters

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterMismatchError, BaseModelError
from lora_gen.evaluation.pictures import PictureRunner, by_component, contact_sheet, png_bytes

CAPTIONS = ["two red circles", "a blue star on the left"]


@pytest.fixture(scope="module")
def runner() -> PictureRunner:
    return PictureRunner(picture_base())


def _drawn(runner: PictureRunner, adapter: Adapter | None = None, **options: Any) -> torch.Tensor:
    return runner.draw(CAPTIONS, adapter, steps=2, **options)


def test_pictures_repeat_with_their_seed_and_the_base_stays_as_it_was(
    runner: PictureRunner,
) -> None:
    plain = _drawn(runner)
    assert plain.shape == (2, 3, 32, 32)
    assert 0 <= float(plain.min()) <= float(plain.max()) <= 1
    styled = _drawn(runner, random_picture_adapters(1)[0])
    assert float((styled - plain).abs().mean()) > 1e-3
    assert torch.equal(_drawn(runner), plain)
    assert not torch.equal(_drawn(runner, seed=5), plain)


def test_pictures_under_an_adapter_are_those_of_the_merged_weights(runner: PictureRunner) -> None:
    adapter = random_picture_adapters(2)[1]
    own = PictureRunner(picture_base())
    pairs = {name.removeprefix("unet."): pair for name, pair in adapter.pairs.items()}
    merged(own.pipe.unet, Adapter(pairs=pairs))
    torch.testing.assert_close(_drawn(runner, adapter), _drawn(own), rtol=1e-3, atol=1e-4)


def test_an_adapter_of_another_kind_of_base_is_refused(runner: PictureRunner) -> None:
    pair = next(iter(random_picture_adapters(1)[0].pairs.values()))
    with pytest.raises(
        AdapterMismatchError, match=r"`model\.q_proj` does not begin with a component"
    ):
        by_component({"model.q_proj": pair.matrices()})
    with pytest.raises(AdapterMismatchError, match="`transformer`, which the base does not have"):
        _drawn(runner, Adapter(pairs={"transformer.proj": pair}))


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Any) -> None:
    with pytest.raises(BaseModelError, match="is not a text-to-image pipeline"):
        PictureRunner(tmp_path)


def test_a_contact_sheet_has_a_block_for_each_column_and_a_row_for_each_caption() -> None:
    white, black = torch.ones(4, 3, 32, 32), torch.zeros(4, 3, 32, 32)
    columns = [("base", white), ("adapter", black)]
    sheet = contact_sheet(CAPTIONS, columns, per_row=2)
    wider = contact_sheet(CAPTIONS, [*columns, ("other", black)], per_row=2)
    assert wider.height == sheet.height
    assert wider.width > sheet.width
    assert png_bytes(sheet).startswith(b"\x89PNG")
    middle = sheet.crop((sheet.width // 2 + 20, 60, sheet.width - 20, 120))
    assert middle.getextrema()[0][0] == 0
