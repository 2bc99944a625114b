"""The map of styles: every style has a cell of its own, near where it belongs."""

import io

import torch
from PIL import Image

from recipes.tiny_sd.style_map import cells_of, draw_map, plane_of


def _vectors(count: int) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(0)).double()


def test_cells_are_inside_the_map_and_never_shared() -> None:
    points = torch.rand(37, 2, generator=torch.Generator().manual_seed(0)).double()
    cells = cells_of(points, 8, 5)
    assert len(set(cells)) == 37
    assert all(0 <= x < 8 and 0 <= y < 5 for x, y in cells)


def test_cell_is_the_points_own_where_nobody_else_wants_it() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.0]]).double()
    assert cells_of(points, 3, 2) == [(0, 0), (2, 1), (1, 0)]


def test_plane_does_not_see_how_long_an_adapter_is() -> None:
    vectors = _vectors(9)
    longer = vectors * torch.linspace(0.1, 5, 9).double()[:, None]
    torch.testing.assert_close(plane_of(vectors @ vectors.T), plane_of(longer @ longer.T))


def test_plane_lays_like_adapters_side_by_side() -> None:
    first, second = torch.eye(2, 6).double()
    jitter = 0.01 * _vectors(8)
    vectors = torch.stack([first] * 4 + [second] * 4) + jitter
    along = plane_of(vectors @ vectors.T)[:, 0]
    assert (along[:4].max() < along[4:].min()) or (along[4:].max() < along[:4].min())


def test_map_is_a_picture_with_room_for_every_style() -> None:
    vectors = _vectors(7)
    made = draw_map(["a+b"] * 7, torch.rand(7, 3, 32, 32), plane_of(vectors @ vectors.T))
    width, height = Image.open(io.BytesIO(made)).size
    assert width > height
