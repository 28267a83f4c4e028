import numpy as np

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.scenes.rendering import IMAGE_SIZE, scene

ROWS = list(scene_rows("train", 150, seed=11))


def test_masks_stay_within_their_patches():
    """What the patch grid is for: an object fills four patches of eight pixels at most."""
    for row in ROWS:
        for expression in row["key_expressions"]:
            x0, y0, x1, y1 = (value / 8 for value in expression["boxes"][0])
            assert np.ceil(x1) - np.floor(x0) <= 2
            assert np.ceil(y1) - np.floor(y0) <= 2


def test_objects_lie_inside_and_apart():
    for row in ROWS:
        objects = scene(row["id"]).objects
        for thing in objects:
            assert all(thing.radius <= c <= IMAGE_SIZE - thing.radius for c in thing.center)
            assert thing.mask().sum() > 30
        assert sum(thing.mask().astype(int) for thing in objects).max() == 1
