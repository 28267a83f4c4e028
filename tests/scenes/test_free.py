import numpy as np
import pytest

from fivl_hf.images import open_rgb
from fivl_hf.scenes.free import free_scene
from fivl_hf.scenes.styles import SIDE, STYLES


@pytest.mark.parametrize("style", STYLES)
def test_a_scene_is_a_pure_function_of_its_id(style):
    one = free_scene(f"{style}-4-train-9")
    free_scene.cache_clear()
    again, other = free_scene(f"{style}-4-train-9"), free_scene(f"{style}-5-train-9")
    assert one.turns == again.turns
    assert one.image() == again.image() != other.image()
    assert (np.asarray(open_rgb(one.image())) == one.pixels()).all()
    assert one.pixels().shape == (SIDE, SIDE, 3)
    assert len(one.turns) == len(one.kinds) == 3
    assert one.question("count") == again.question("count")


def test_an_expression_finds_the_objects_that_have_all_of_its_words():
    for number in range(30):
        scene = free_scene(f"free-0-test-{number}")
        for thing in scene.objects:
            found = scene.find(thing.name)
            assert any((mask == thing.mask()).all() for mask in found)
            assert len(scene.find(f"two {thing.noun}s" if thing.noun[-1] != "s" else "two crosses")) == len(
                [other for other in scene.objects if other.noun == thing.noun]
            )
        assert scene.find("") == scene.find("wooden table") == scene.find("red elephant") == []


def test_styles_look_different():
    """Outlined scenes are dark, photographs have no colour word, and half of the grounds are photographs."""
    dark, light = (
        np.mean([free_scene(f"{style}-0-test-{i}").pixels().mean() for i in range(30)])
        for style in ("outlined", "free")
    )
    assert dark < 90 < light
    assert all(t.color is None for i in range(10) for t in free_scene(f"photographs-0-test-{i}").objects)


@pytest.mark.parametrize("scene_id", ["other-0-train-1", "free-0-train", "free-x-train-1", "free-0-dev-1", "free"])
def test_other_ids_are_refused(scene_id):
    with pytest.raises(ValueError):
        free_scene(scene_id)
