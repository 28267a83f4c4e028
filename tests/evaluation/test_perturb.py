import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fivl_hf.evaluation.perturb import random_boxes
from fivl_hf.images import black_out

size = st.tuples(st.integers(1, 40), st.integers(1, 40))


@st.composite
def image_and_boxes(draw):
    width, height = draw(size)
    boxes = []
    for _ in range(draw(st.integers(1, 3))):
        x0, y0 = draw(st.floats(0, width * 0.9)), draw(st.floats(0, height * 0.9))
        x1, y1 = draw(st.floats(x0 + 0.05, width + 0.05)), draw(st.floats(y0 + 0.05, height + 0.05))
        boxes.append((x0, y0, min(x1, width), min(y1, height)))
    return (width, height), boxes


@given(image_and_boxes())
def test_every_touched_pixel_is_black_and_no_other(case):
    (width, height), boxes = case
    image = Image.new("RGB", (width, height), (9, 200, 30))
    masked = np.asarray(black_out(image, boxes)).any(axis=-1)
    for y in range(height):
        for x in range(width):
            touched = any(x0 < x + 1 and x < x1 and y0 < y + 1 and y < y1 for x0, y0, x1, y1 in boxes)
            assert masked[y, x] != touched
    assert np.asarray(image).any(axis=-1).all(), "the original is untouched"


@given(image_and_boxes(), st.integers(0, 5))
def test_random_boxes_keep_size_and_stay_inside(case, seed):
    (width, height), boxes = case
    placed = random_boxes(boxes, (width, height), seed)
    outer = [
        b
        for i, b in enumerate(boxes)
        if not any(within(b, o) and (b != o or j < i) for j, o in enumerate(boxes) if j != i)
    ]
    for (x0, y0, x1, y1), (a0, b0, a1, b1) in zip(outer, placed.boxes, strict=True):
        assert np.allclose([a1 - a0, b1 - b0], [x1 - x0, y1 - y0], atol=1e-4)
        assert min(a0, b0) >= -1e-6
        assert a1 <= width + 1e-4
        assert b1 <= height + 1e-4
        assert pixels((a0, b0, a1, b1)) == pixels((x0, y0, x1, y1))
    assert 0 <= placed.overlap <= 1
    assert np.array_equal(placed.boxes, random_boxes(boxes, (width, height), seed).boxes)


def pixels(box):
    """How many pixels a box touches; corners a rounding error from a whole pixel count as on it."""
    x0, y0, x1, y1 = np.round(box, 6)
    return (np.ceil(x1) - np.floor(x0)) * (np.ceil(y1) - np.floor(y0))


def within(a, b):
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]


def test_equal_and_nested_boxes_get_one_random_box():
    placed = random_boxes([(5, 5, 15, 15)] * 3 + [(6, 6, 9, 9)], (60, 60), 0)
    assert placed.boxes.shape == (1, 4)


def test_the_evidence_is_avoided_where_there_is_room():
    overlaps = [random_boxes([(0, 0, 10, 10), (30, 30, 40, 40)], (60, 60), seed).overlap for seed in range(20)]
    assert overlaps == [0.0] * 20
    assert len({tuple(random_boxes([(0, 0, 10, 10)], (60, 60), s).boxes[0]) for s in range(10)}) > 1


def test_overlap_is_reported_where_there_is_none():
    assert random_boxes([(0, 0, 8, 8)], (10, 10), 0).overlap > 0.3
    assert random_boxes([(0, 0, 10, 10)], (10, 10), 0).overlap == 1.0
