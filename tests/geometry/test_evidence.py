import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fivl_hf.geometry import row_coverage
from fivl_hf.masks import coverage, mask_part

NOTHING = [np.nan] * 4


def test_two_images_by_hand():
    """A mask of the left half of the first image, and one of the second image's lower line."""
    left = np.zeros((2, 4), dtype=bool)
    left[:, :2] = True
    lower = np.zeros((2, 2), dtype=bool)
    lower[1] = True
    boxes = [np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], NOTHING]), np.array([[0.0, 0, 2, 2], [0, 1, 1, 2]])]
    cover, visible = row_coverage([1, 0], [mask_part(lower), mask_part(left)], boxes)
    assert cover.tolist() == [[0, 0, 0, 0.5, 1], [1, 0.5, 0, 0, 0]]
    assert visible.tolist() == [[False, False, False, True, True], [True, True, False, False, False]]


def test_nothing_to_measure():
    cover, visible = row_coverage([], [], [np.zeros((3, 4))])
    assert cover.shape == visible.shape == (0, 3)
    cover, visible = row_coverage([], [], [])
    assert cover.shape == visible.shape == (0, 0)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2), max_size=5))
def test_each_image_alone_gives_the_same(seed, image_of):
    rng = np.random.default_rng(seed)
    masks = [rng.random((5, 7)) < 0.4 for _ in image_of]
    corners = [np.sort(rng.uniform(0, 7, (4, 2, 2)), axis=1) for _ in range(3)]
    boxes = [corner.reshape(4, 4) for corner in corners]
    cover, visible = row_coverage(image_of, [mask_part(mask) for mask in masks], boxes)
    for k, image in enumerate(image_of):
        for number in range(3):
            part = slice(4 * number, 4 * number + 4)
            expected = coverage(masks[k][None], boxes[number])[0] if number == image else np.zeros(4)
            assert np.array_equal(cover[k, part], expected)
            assert visible[k, part].all() == (number == image)
