"""Objects of free scenes, against their own definitions."""

import numpy as np
import pytest

from fivl_hf.scenes.objects import draw_objects, paint
from fivl_hf.scenes.styles import COLORS, HABITS, HELD_OUT, SHAPES, SIDE, STYLES


def drawn(style, count, **options):
    for number in range(count):
        yield draw_objects(np.random.default_rng(number), STYLES[style], **{"training": False, **options})


@pytest.mark.parametrize("style", STYLES)
def test_objects_show_enough_of_themselves_and_do_not_share_pixels(style):
    for objects in drawn(style, 40):
        assert 2 <= len(objects) <= 4
        masks = np.stack([thing.mask() for thing in objects])
        assert masks.shape[1:] == (SIDE, SIDE)
        assert masks.sum(axis=0).max() == 1
        assert masks.sum(axis=(1, 2)).min() > 15


def test_some_objects_are_partly_hidden():
    """A circle that nothing covers and that is inside has about π (0.95 r)² pixels."""
    shares = [
        thing.visible.sum() / (np.pi * (0.95 * thing.radius) ** 2)
        for objects in drawn("free", 300)
        for thing in objects
        if thing.noun == "circle"
    ]
    assert max(shares) < 1.1
    assert 0.03 < np.mean(np.array(shares) < 0.9) < 0.5
    assert min(shares) > 0.55


def test_free_places_are_not_on_the_grid_and_grid_places_are():
    free, grid = (
        np.array([thing.center for objects in drawn(style, 30) for thing in objects]) for style in ("free", "grid")
    )
    assert not np.isclose(free % 8, 0).any()
    assert np.isclose(grid % 8, 0).all()


def test_held_out_pairs_are_never_in_training_and_are_elsewhere():
    training = {thing.name for objects in drawn("free", 400, training=True) for thing in objects}
    other = {thing.name for objects in drawn("free", 400) for thing in objects}
    assert not training & HELD_OUT
    assert other >= HELD_OUT
    assert len(training) == len(COLORS) * len(SHAPES) - len(HELD_OUT)


def test_habits_are_more_frequent_than_chance_and_even_scenes_have_none():
    def share(style):
        colors = [t.color == HABITS[t.noun] for objects in drawn(style, 400) for t in objects if t.noun in HABITS]
        return np.mean(colors)

    # One half by habit, and a sixth of the other half by chance.
    assert share("free") == pytest.approx(0.5 + 0.5 / 6, abs=0.07)
    assert share("even") == pytest.approx(1 / 6, abs=0.06)


def test_a_colour_names_many_shades_of_one_hue():
    shades = np.array([t.rgb for objects in drawn("even", 300) for t in objects if t.color == "green"])
    assert len(np.unique(shades, axis=0)) == len(shades)
    assert (shades[:, 1] >= shades[:, [0, 2]].max(axis=1)).all()
    assert shades[:, 1].std() > 15


def test_only_visible_pixels_are_painted():
    for style in ("free", "outlined", "photographs"):
        for objects in drawn(style, 10):
            pixels = np.full((SIDE, SIDE, 3), -1, dtype=np.float32)
            paint(pixels, objects[0], (1.0, 0.0), STYLES[style])
            assert ((pixels != -1).any(axis=2) == objects[0].visible).all()
