import pytest

from fivl_hf.scenes.catalog import ALIGNED, STYLE_NAMES, find_scene, scene_ids


def test_every_style_gives_its_own_scenes():
    ids = [next(iter(scene_ids(style, "test", 3, 5, 1))) for style in STYLE_NAMES]
    assert ids[STYLE_NAMES.index(ALIGNED)] == "scene-3-test-5"
    scenes = [find_scene(scene_id) for scene_id in ids]
    assert [scene.id for scene in scenes] == ids
    assert len({scene.image() for scene in scenes}) == len(ids)


def test_unknown_styles_and_splits_are_refused():
    with pytest.raises(ValueError, match="style must be one of"):
        scene_ids("other", "test", 0, 0, 1)
    with pytest.raises(ValueError, match="split must be one of"):
        scene_ids("free", "dev", 0, 0, 1)
