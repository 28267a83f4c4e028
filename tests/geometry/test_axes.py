"""Sides of images by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fivl_hf.geometry.axes import Axis, grid_boxes, padded_square_axes, stretched_boxes, tile_boxes, unpadded_boxes


def test_a_crop_by_hand():
    """100 pixels scaled to 50, of which the middle 30 are left: patches of 10 see 20 pixels each, from 20 on."""
    axis = Axis(source=100, pad=0, scale=0.5, offset=10, length=30)
    assert axis.cells(10).tolist() == [[20, 40], [40, 60], [60, 80]]


def test_padding_sees_nothing():
    """A 100 × 50 image padded to a square and resized to 10: above and below, 2.5 pixels are padding."""
    x, y = padded_square_axes((100, 50), 10)
    assert x.cells(2).tolist() == [[0, 20], [20, 40], [40, 60], [60, 80], [80, 100]]
    cells = y.cells(2)
    assert np.isnan(cells[0]).all() and np.isnan(cells[4]).all()
    assert cells[1:4].tolist() == [[0, 15], [15, 35], [35, 50]]


def test_what_a_tile_has_beyond_whole_patches_is_in_none():
    """Tiles of 5 pixels hold two patches of 2; the fifth pixel is lost."""
    assert Axis(source=10, pad=0, scale=1, offset=0, length=10).cells(2, tile=5).tolist() == [
        [0, 2],
        [2, 4],
        [5, 7],
        [7, 9],
    ]


def test_cells_run_row_by_row():
    boxes = grid_boxes(np.array([[0.0, 1], [1, 2]]), np.array([[0.0, 5], [np.nan, np.nan]]))
    assert boxes[:2].tolist() == [[0, 0, 1, 5], [1, 0, 2, 5]]
    assert np.isnan(boxes[2:]).all()


def test_tiles_are_parts_of_the_stretched_image():
    tiles = tile_boxes((40, 20), (2, 1), (8, 8), 2)
    assert len(tiles) == 2
    assert tiles[0].tolist() == [[0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [10, 10, 20, 20]]
    assert (tiles[1] - tiles[0]).tolist() == [[20, 0, 20, 0]] * 4


@given(st.tuples(st.integers(1, 500), st.integers(1, 500)), st.integers(1, 6), st.integers(1, 6))
def test_stretched_cells_tile_the_image(size, columns, rows):
    boxes = stretched_boxes(size, (columns * 12, rows * 12), (columns, rows))
    assert boxes.shape == (columns * rows, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert np.isclose(areas.sum(), size[0] * size[1])


def test_boxes_of_the_padded_square_by_hand():
    """A 100 × 50 image in a square of 10: a tenth of the scale, and 2.5 of padding above and below."""
    boxes = [[0, 0, 10, 10], [5, 2.5, 10, 5], [0, 0, 10, 2], [np.nan, 0, 1, 1]]
    assert unpadded_boxes(boxes, (100, 50), 10).tolist() == [[0, 0, 100, 50], [50, 0, 100, 25]]
    assert unpadded_boxes([], (100, 50), 10).shape == (0, 4)
