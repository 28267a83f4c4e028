import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fivl_hf.evaluation.conditions import (
    CONDITIONS,
    apply,
    hidden_region,
    kind_of,
    needs_evidence,
    require_conditions,
    with_fill,
)
from fivl_hf.evaluation.perturb import random_boxes
from fivl_hf.images import black_out

SIZE = (30, 20)


def picture(seed=0):
    pixels = np.random.default_rng(seed).integers(1, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@st.composite
def boxes(draw):
    found = []
    for _ in range(draw(st.integers(1, 3))):
        x, y = draw(st.floats(0, SIZE[0] - 2)), draw(st.floats(0, SIZE[1] - 2))
        found.append([x, y, x + draw(st.floats(1, SIZE[0] - x)), y + draw(st.floats(1, SIZE[1] - y))])
    return found


def touched(evidence):
    """Pixel by pixel: does any box touch it?"""
    return np.array(
        [[any(x0 < x + 1 and x < x1 and y0 < y + 1 and y < y1 for x0, y0, x1, y1 in evidence) for x in range(SIZE[0])]
         for y in range(SIZE[1])]
    )  # fmt: skip


@given(boxes())
def test_removed_and_kept_divide_the_image(evidence):
    image = picture()
    region = touched(evidence)
    pixels = np.asarray(image)
    removed, kept = (np.asarray(apply(name, image, evidence)) for name in ("removed", "kept"))
    assert np.array_equal(removed, np.where(region[..., None], 0, pixels))
    assert np.array_equal(kept, np.where(region[..., None], pixels, 0))
    assert np.array_equal(removed, np.asarray(black_out(image, evidence)))


@given(boxes(), st.integers(0, 5))
def test_fills_touch_nothing_else_and_tell_nothing(evidence, seed):
    image, region = picture(seed), touched(evidence)
    pixels = np.asarray(image)
    mean = np.asarray(apply("removed-mean", image, evidence))
    assert np.array_equal(mean[~region], pixels[~region])
    if not region.all():
        assert np.allclose(mean[region], pixels[~region].mean(axis=0), atol=1)
    blurred = np.asarray(apply("removed-blur", image, evidence))
    assert np.array_equal(blurred[~region], pixels[~region])
    if region.sum() > 20:
        assert blurred[region].std() < pixels[region].std()


@given(boxes(), st.integers(0, 3))
def test_random_boxes_are_those_of_the_seed(evidence, seed):
    expected = black_out(picture(), random_boxes(evidence, SIZE, (seed, 1)).boxes)
    assert np.array_equal(np.asarray(apply("random", picture(), evidence, (seed, 1))), np.asarray(expected))


def test_other_conditions():
    image = picture()
    assert apply("text-only", image, []) is None
    assert np.array_equal(np.asarray(apply("original", image, [[0, 0, 5, 5]])), np.asarray(image))
    assert np.asarray(apply("blank", image, [])).std() == 0
    other = np.asarray(apply("other", image, [[0, 0, 5, 5]], other=[[10, 10, 12, 12]]))
    assert (other == 0).all(axis=2).sum() == 4
    grown = hidden_region("removed", SIZE, [[5, 5, 7, 7]], dilation=2)
    assert np.array_equal(grown, touched([[3, 3, 9, 9]]))
    assert hidden_region("removed", SIZE, [[0, 0, 3, 3]], dilation=4).sum() == 49
    assert apply("removed", image, [[5, 5, 7, 7]], fill="mean").getpixel((5, 5)) != (0, 0, 0)
    transparent = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    assert apply("original", transparent, []).getpixel((0, 0)) == (255, 255, 255), "as a model sees it"


def test_names():
    assert require_conditions(["random", "kept", "random"]) == ["original", "random", "kept"]
    with pytest.raises(ValueError, match="no condition 'masked'; there are original, removed"):
        apply("masked", picture(), [])
    with pytest.raises(ValueError, match="fill must be one of black, mean, blur"):
        apply("removed", picture(), [[0, 0, 1, 1]], fill="pink")
    assert [name for name in CONDITIONS if not needs_evidence(name)] == ["original", "blank", "text-only"]


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(0, 4))
def test_a_mask_grows_as_a_box_does(mask, pixels):
    """It takes in every pixel at most that many rows and columns away from a set one."""
    size = mask.shape[::-1]
    expected = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        expected[max(0, y - pixels) : y + pixels + 1, max(0, x - pixels) : x + pixels + 1] = True
    assert np.array_equal(hidden_region("removed", size, [], mask=mask, dilation=pixels), expected)
    assert np.array_equal(hidden_region("kept", size, [], mask=mask, dilation=pixels), ~expected)


def test_a_random_mask_is_the_evidences_shape_elsewhere():
    """Each box's part of the mask moves with its box, whole pixels to a side."""
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[2, 3:7] = mask[3, 3] = True
    box = [[3, 2, 7, 4]]
    for seed in range(20):
        region = hidden_region("random", SIZE, box, seed, mask=mask)
        placed = random_boxes(box, SIZE, seed)
        x, y = (placed.boxes[0][:2] - (3, 2)).astype(int)
        expected = np.zeros_like(mask)
        expected[2 + y, 3 + x : 7 + x] = expected[3 + y, 3 + x] = True
        assert np.array_equal(region, expected)
        assert not (region & mask).any()


def test_boxes_of_other_questions_grow_too():
    region = hidden_region("other", SIZE, [[0, 0, 2, 2]], other=[[10, 10, 12, 12]], dilation=2)
    assert np.array_equal(region, touched([[8, 8, 14, 14]]))


def test_every_hiding_condition_has_every_fill():
    image, box = picture(), [[5, 5, 15, 12]]
    for kind in ("removed", "random", "other", "kept"):
        for fill in ("black", "mean", "blur", "inpaint"):
            name = with_fill(kind, fill)
            assert name in CONDITIONS
            assert kind_of(name) == kind
            found = apply(name, image, box, 3, other=[[20, 2, 25, 8]])
            assert np.array_equal(found, apply(kind, image, box, 3, other=[[20, 2, 25, 8]], fill=fill))
            region = hidden_region(kind, SIZE, box, 3, other=[[20, 2, 25, 8]])
            assert np.array_equal(np.asarray(found)[~region], np.asarray(image)[~region])
    assert kind_of("text-only") == "text-only"


def test_painting_over_takes_the_surroundings(monkeypatch):
    image = Image.new("RGB", (20, 20), (10, 120, 30))
    image.paste((250, 0, 0), (5, 5, 10, 10))
    shown = np.asarray(apply("removed-inpaint", image, [[5, 5, 10, 10]]))
    assert np.abs(shown.astype(int) - (10, 120, 30)).max() <= 2
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match="painting over evidence needs OpenCV: pip install"):
        apply("removed-inpaint", image, [[5, 5, 10, 10]])
