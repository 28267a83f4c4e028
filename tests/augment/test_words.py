from dataclasses import replace

import numpy as np
import pytest
from grounding_requests import noise, request
from random_models import save_grounding_dino, save_sam

from fivl_hf.augment.scenes import SceneGrounder, scene_image
from fivl_hf.augment.tools import ToolSettings
from fivl_hf.augment.words import WordFinder
from fivl_hf.scenes.rendering import scene


@pytest.mark.parametrize("protocol", ["default", "paper"])
def test_real_detectors_find_less_at_higher_thresholds(tmp_path, protocol):
    names = {
        "detector": str(save_grounding_dino(tmp_path / "dino", size=128)),
        "segmenter": str(save_sam(tmp_path / "sam")),
    }
    settings = ToolSettings(**names, device="cpu", protocol=protocol)
    finder = settings.word_finder([0.6, 0.2, 1.0])
    assert finder.thresholds == [0.2, 0.6, 1.0]
    image = noise(80, 60)
    masks_by_threshold = finder.find("1", image, ["cat", "dog"])
    areas = [sum(mask.sum() for mask in masks if mask is not None) for masks in masks_by_threshold]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1] == 0
    # As a grounder of that threshold alone finds it.
    (alone,) = replace(settings, threshold=0.6)(0).grounder.ground([request("1", image, "cat", "dog")])
    for mask, grounding in zip(masks_by_threshold[1], alone, strict=True):
        assert (mask is None) == (grounding is None)
        assert mask is None or np.array_equal(mask, grounding.mask)


def test_words_of_scenes_are_found_by_shape_and_color():
    finder = WordFinder({None: SceneGrounder()}, scene_image)
    thing = scene("scene-3-test-5").objects[0]
    ((by_shape, by_color, nothing),) = finder.find("scene-3-test-5", noise(40, 40), [thing.shape, thing.color, "cat"])
    assert np.array_equal(by_shape, thing.mask())
    assert np.array_equal(by_color, thing.mask())
    assert nothing is None


def test_grounders_without_single_words_are_refused():
    with pytest.raises(ValueError, match="'annotations' does not find single words: take 'grounded-sam'"):
        ToolSettings(grounder="annotations").word_finder([0.3])
