import hashlib
import json

import numpy as np
import pytest

from fivl_hf.images import open_rgb
from fivl_hf.scenes.free import free_scene
from fivl_hf.scenes.rendering import SPLITS
from fivl_hf.scenes.styles import EDITION, HELD_OUT, SIDE, STYLES


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
        assert scene.find("") == scene.find("wooden table") == scene.find("red elephant") == scene.find("two") == []


def test_styles_look_different():
    """Outlined scenes are dark, photographs have no colour word, and half of the grounds are photographs."""
    dark, light = (
        np.mean([free_scene(f"{style}-0-test-{i}").pixels().mean() for i in range(30)])
        for style in ("outlined", "free")
    )
    assert dark < 90 < light
    assert all(t.color is None for i in range(10) for t in free_scene(f"photographs-0-test-{i}").objects)


def test_the_edition_is_that_of_these_scenes():
    """When this fails, raise EDITION: results of other scenes must not be taken for results of these."""
    scenes = [free_scene(f"{style}-0-{split}-{i}") for style in STYLES for split in SPLITS for i in range(8)]
    content = [
        (each.turns, [[thing.name, np.packbits(thing.mask()).tobytes().hex()] for thing in each.objects])
        for each in scenes
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    assert (EDITION, digest) == (3, "093b3af0aded613a")


def test_training_questions_never_name_a_pair_that_is_held_out():
    for style in ("free", "flipped"):
        scenes = [free_scene(f"{style}-0-train-{number}") for number in range(300)]
        training = [text for scene in scenes for turn in (*scene.turns, scene.question("presence")) for text in turn]
        assert not any(pair in text for text in training for pair in HELD_OUT)
    absent = [free_scene(f"free-0-test-{number}").question("presence")[0] for number in range(300)]
    assert any(pair in text for text in absent for pair in HELD_OUT)


@pytest.mark.parametrize("scene_id", ["other-0-train-1", "free-0-train", "free-x-train-1", "free-0-dev-1", "free"])
def test_other_ids_are_refused(scene_id):
    with pytest.raises(ValueError):
        free_scene(scene_id)
