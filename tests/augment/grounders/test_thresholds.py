from dataclasses import replace

import numpy as np
import pytest
from grounding_requests import noise, request

from fivl_hf.augment.grounders.thresholds import ScoreLimit, SharedDetector, WordFinder
from fivl_hf.augment.grounding import Detection
from fivl_hf.augment.scenes import SceneWordGrounder
from fivl_hf.augment.tools import ToolSettings
from fivl_hf.scenes.rendering import scene


class Counting:
    def __init__(self):
        self.calls = 0

    def detect(self, pairs):
        self.calls += 1
        boxes = np.array([[0.0, 0, 10, 10], [5, 5, 20, 20]])
        return [Detection(boxes, np.array([0.3, 0.5])) for _ in pairs]


def test_one_detection_serves_all_thresholds():
    detector, image = Counting(), noise(30, 30)
    shared = SharedDetector(detector)
    kept = {t: len(ScoreLimit(shared, t).detect([(image, "cat")])[0].boxes) for t in (0.2, 0.4, 0.6)}
    assert (kept, detector.calls) == ({0.2: 2, 0.4: 1, 0.6: 0}, 1)
    shared.detect([(image, "dog")])
    shared.detect([(noise(30, 30), "dog")])
    assert detector.calls == 3


@pytest.mark.parametrize("protocol", ["default", "paper"])
def test_real_detectors_find_less_at_higher_thresholds(models, protocol):
    settings = ToolSettings(
        detector=str(models / "dino"), segmenter=str(models / "sam"), device="cpu", protocol=protocol
    )
    finder = settings.word_finder([0.6, 0.2, 0.999])
    assert finder.thresholds == [0.2, 0.6, 0.999]
    image = noise(80, 60)
    found = finder.find("1", image, ["cat", "dog"])
    areas = [sum(mask.sum() for mask in masks if mask is not None) for masks in found]
    assert areas == sorted(areas, reverse=True)
    assert all(mask is None or mask.shape == (image.height, image.width) for masks in found for mask in masks)
    # As a grounder of that threshold alone finds it.
    (alone,) = replace(settings, threshold=0.6)(0).grounder.ground([request("1", image, "cat", "dog")])
    for mask, grounding in zip(found[1], alone, strict=True):
        assert (mask is None) == (grounding is None)
        assert mask is None or np.array_equal(mask, grounding.mask)


def test_words_of_scenes_are_found_by_shape_and_color():
    finder = WordFinder({None: SceneWordGrounder()}, scenes=True)
    drawn = scene("scene-3-test-5")
    thing = drawn.objects[0]
    ((by_shape, by_color, nothing),) = finder.find("scene-3-test-5", noise(40, 40), [thing.shape, thing.color, "cat"])
    assert np.array_equal(by_shape, thing.mask())
    assert np.array_equal(by_color, thing.mask())
    assert nothing is None
