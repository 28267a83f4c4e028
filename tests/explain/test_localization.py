from itertools import pairwise

import numpy as np
import pytest

from fivl_hf.explain.localization import (
    HeadVotes,
    attention_maps,
    elbow,
    locate,
    located_parts,
    spatial_entropy,
)


def spots(*places, side=12):
    found = np.full((side, side), 0.01)
    for y, x in places:
        found[y : y + 2, x : x + 2] = 1.0
    return found


def grid(side, size):
    edges = list(pairwise(np.linspace(0, size, side + 1)))
    return np.array([[x0, y0, x1, y1] for y0, y1 in edges for x0, x1 in edges])


def test_scattered_maps_have_a_larger_entropy():
    assert spatial_entropy(spots((1, 1))) == pytest.approx(0)
    assert spatial_entropy(spots((1, 1), (8, 8))) == pytest.approx(np.log(2))
    # Spots that touch at a corner are one.
    assert spatial_entropy(spots((1, 1), (3, 3))) == pytest.approx(0)
    assert spatial_entropy(np.ones((4, 4))) == np.inf


def test_the_elbow_of_a_falling_curve():
    assert elbow([10, 9, 8, 1, 0.9, 0.8, 0.7]) == 1
    assert elbow([5, 5, 5]) == 5
    assert elbow([3, 1]) == 1


def test_tokens_are_laid_out_as_the_image_is():
    values = np.arange(16.0)
    assert attention_maps(values, grid(4, 100), (100, 100)).tolist() == values.reshape(4, 4).tolist()
    # A tile of finer tokens over the whole image, and a token of padding.
    whole, tile = grid(2, 100), grid(2, 50)
    boxes = np.concatenate([whole, tile, [[np.nan] * 4]])
    maps = attention_maps(np.arange(9.0), boxes, (100, 100))
    assert maps.tolist() == [[4, 5, 1, 1], [6, 7, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    # A wide image whose lower half nothing sees.
    wide = attention_maps(np.ones((3, 2, 2)), [[0, 0, 10, 10], [10, 0, 20, 10]], (20, 20))
    assert wide.shape == (3, 2, 2, 2)
    assert wide[0, 0].tolist() == [[1, 1], [0, 0]]


def test_a_box_is_where_heads_point_together():
    maps = [spots((4, 6)), spots((4, 6), (0, 0)), spots((4, 7))]
    x0, y0, x1, y1 = locate(maps, (120, 120))
    assert 40 <= x0 <= 60
    assert 80 <= x1 <= 100
    assert 20 <= y0 <= 40
    assert 60 <= y1 <= 80
    assert locate([np.ones((4, 4))], (10, 10)) is None


def test_heads_that_look_at_one_spot_are_voted_for():
    rng = np.random.default_rng(0)
    votes = HeadVotes(voted=3)
    for _ in range(6):
        maps = rng.random((4, 4, 12, 12)) * 0.2
        y, x = rng.integers(0, 10, 2)
        maps[2, 1] = spots((y, x)) * 30  # looks much, at one spot
        maps[3, 3] = spots((0, 0), (5, 5), (9, 0)) * 30  # looks much, at several
        maps[1, 0] = spots((y, x)) * 30  # in a layer that is skipped
        maps[3, 0] = spots((y, x)) * 0.01  # hardly looks
        votes.add(maps)
    assert votes.ranked()[:2] == [(2, 1), (3, 3)]
    assert (1, 0) not in votes.ranked()
    assert (3, 0) not in votes.ranked()
    with pytest.raises(ValueError, match="there are no samples"):
        HeadVotes().ranked()
    shallow = HeadVotes()
    shallow.add(np.ones((2, 2, 3, 3)))
    with pytest.raises(ValueError, match="of 2 layers, none after the first 2 has finite attention"):
        shallow.ranked()


def test_parts_are_boxes_of_their_own_the_largest_mass_first():
    """Two spots far apart in 12 × 12 cells of 10 pixels; a third with a tenth of the mass is left out."""
    cells = np.zeros((12, 12))
    cells[1:3, 1:3], cells[9:11, 9:11], cells[1, 10] = 8.0, 10.0, 0.8
    boxes = located_parts([cells], (120, 120), 3)
    assert len(boxes) == 2
    (x0, y0, x1, y1), second = boxes
    assert x0 >= 60 and y0 >= 60 and x1 <= 120 and y1 <= 120
    assert second[2] <= 60 and second[3] <= 60
    assert located_parts([cells], (120, 120), 1) == [locate([cells], (120, 120))]
    assert located_parts([np.ones((4, 4))], (8, 8), 3) == []
