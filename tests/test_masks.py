import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fivl_hf import masks

sides = st.integers(1, 9)
one_mask = st.tuples(sides, sides).flatmap(lambda shape: arrays(bool, shape))
stacks = st.tuples(st.integers(1, 4), sides, sides).flatmap(lambda shape: arrays(bool, shape))
corner = st.floats(-3, 12, allow_nan=False, width=32)
boxes = st.lists(st.tuples(corner, corner, corner, corner), min_size=1, max_size=5)


@given(one_mask)
def test_png_round_trip_is_exact_and_bilevel(mask):
    png = masks.encode_mask(mask)
    assert Image.open(io.BytesIO(png)).mode == "1"
    assert np.array_equal(masks.decode_mask(png), mask)
    assert np.array_equal(masks.decode_mask({"bytes": png, "path": None}), mask)


def test_a_photograph_sized_mask_is_small():
    yy, xx = np.mgrid[:480, :640]
    assert len(masks.encode_mask(np.hypot(xx - 300, yy - 200) < 120)) < 1500


def test_grey_masks_count_from_128():
    grey = Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8))
    assert masks.decode_mask(grey).tolist() == [[False, False, True, True]]
    assert masks.decode_mask(Image.fromarray(np.array([[0, 1]], dtype=np.uint8))).tolist() == [[False, True]]


def test_masks_of_16_bits_are_set_from_the_middle_up():
    grey = Image.fromarray(np.array([[0, 1_000, 32_000, 40_000, 65_535]], dtype=np.uint16))
    assert masks.decode_mask(grey).tolist() == [[False, False, False, True, True]]


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        masks.coverage(np.zeros((1, 2, 2), bool), np.zeros((4, 5)))


def test_encode_refuses_what_is_no_mask():
    with pytest.raises(ValueError, match=r"boolean \(H, W\)"):
        masks.encode_mask(np.zeros((2, 2)))


def brute_force_coverage(mask, box):
    """Area of the set pixels inside the box over the box's area, pixel by pixel."""
    x0, y0, x1, y1 = box
    if not np.isfinite(box).all() or x1 <= x0 or y1 <= y0:
        return 0.0
    inside = 0.0
    for y, x in np.argwhere(mask):
        wide = max(0.0, min(x1, x + 1) - max(x0, x))
        high = max(0.0, min(y1, y + 1) - max(y0, y))
        inside += wide * high
    return inside / ((x1 - x0) * (y1 - y0))


@given(stacks, boxes)
def test_coverage_equals_the_area_integral(stack, corners):
    corners = np.array(corners)
    # A sliver's area is itself rounded to nothing.
    corners = corners[(np.abs(corners[:, 2] - corners[:, 0]) > 1e-3) & (np.abs(corners[:, 3] - corners[:, 1]) > 1e-3)]
    expected = np.array([[brute_force_coverage(m, b) for b in corners] for m in stack]).reshape(len(stack), -1)
    assert np.allclose(masks.coverage(stack, corners), expected, atol=1e-6)


def test_coverage_of_boxes_that_see_nothing_is_zero():
    full = np.ones((1, 4, 4), dtype=bool)
    assert masks.coverage(full, [[np.nan] * 4, [2, 2, 2, 3], [3, 3, 1, 1], [1, 1, 3, 3]]).tolist() == [[0, 0, 0, 1]]
    assert masks.coverage(np.zeros((0, 4, 4), dtype=bool), [[0, 0, 1, 1]]).shape == (0, 1)


def test_coverage_at_fractional_positions_by_hand():
    mask = np.array([[[True, False], [False, False]]])
    # The unit box around the centre holds a quarter of each pixel.
    assert masks.coverage(mask, [[0.5, 0.5, 1.5, 1.5]])[0, 0] == pytest.approx(0.25)
    # Half of this box hangs out of the image, where nothing is set.
    assert masks.coverage(mask, [[-1.0, 0.0, 1.0, 1.0]])[0, 0] == pytest.approx(0.5)


@given(stacks)
def test_boxes_are_tight(stack):
    for mask, box in zip(stack, masks.mask_boxes(stack), strict=True):
        if not mask.any():
            assert np.isnan(box).all()
            continue
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_union_and_rasterized_boxes():
    left, right = np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]
    assert masks.union([left, right]).all()
    drawn = masks.rasterize_boxes([[0.5, 0, 1.5, 1]], (4, 2))
    assert drawn.tolist() == [[True, True, False, False], [False] * 4]


def test_what_a_mask_does_not_touch_has_no_coverage_at_all():
    """Sums over large tables cancel inexactly between pixels; a trace would label the patch."""
    mask = np.zeros((110, 50), dtype=bool)
    for i, y in enumerate(range(2, 61)):
        mask[y, 4 : 5 + i % 40] = True
    columns, rows = np.linspace(0, 50, 9), np.linspace(0.3, 109.7, 18)
    boxes = np.array([[x0, y0, x1, y1] for y0, y1 in pairwise(rows) for x0, x1 in pairwise(columns)])
    for box, value in zip(boxes, masks.coverage(mask[None], boxes)[0], strict=True):
        x0, y0, x1, y1 = (int(edge) for edge in (*np.floor(box[:2]), *np.ceil(box[2:])))
        assert (value > 0) == mask[y0:y1, x0:x1].any()


def test_parts_are_masks_without_their_margins():
    mask = np.zeros((9, 12), dtype=bool)
    mask[2:5, 7:11] = True
    mask[3, 8] = False
    for pixels in (mask, np.ones_like(mask), np.zeros_like(mask)):
        grey = Image.fromarray(pixels.astype(np.uint8) * 255)
        for stored in ({"bytes": masks.encode_mask(pixels), "path": None}, grey):
            part = masks.decode_part(stored)
            whole = np.zeros_like(mask)
            height, width = part.pixels.shape
            whole[part.top : part.top + height, part.left : part.left + width] = part.pixels
            assert np.array_equal(whole, pixels)
            assert part.size == (12, 9)
    assert masks.decode_part(grey).pixels.size == 0
    assert masks.decode_part(Image.fromarray(mask)).pixels.shape == (3, 4)
