import numpy as np
from grounding_requests import noise, request

from fivl_hf.augment.grounders.thresholds import ScoreLimit, SharedDetector
from fivl_hf.augment.grounding import BoxGrounder, Detection, PaddedGrounder


class Counting:
    def __init__(self):
        self.calls = 0

    def detect(self, pairs):
        self.calls += 1
        boxes = np.array([[0.0, 0, 10, 10], [5, 5, 20, 20]])
        return [Detection(boxes, np.array([0.3, 0.5])) for _ in pairs]


class Whole:
    def segment(self, image, boxes):
        return (np.ones((image.height, image.width), dtype=bool) for _ in boxes)


def test_one_detection_serves_all_thresholds():
    detector, image = Counting(), noise(30, 30)
    shared = SharedDetector(detector)
    kept = {t: len(ScoreLimit(shared, t).detect([(image, "cat")])[0].boxes) for t in (0.2, 0.4, 0.6)}
    assert (kept, detector.calls) == ({0.2: 2, 0.4: 1, 0.6: 0}, 1)
    shared.detect([(image, "dog")])
    shared.detect([(noise(30, 30, seed=1), "dog")])
    assert detector.calls == 3


def test_so_it_does_for_images_that_every_grounder_pads_itself():
    detector = Counting()
    shared = SharedDetector(detector)
    for threshold in (0.2, 0.4, 0.6):
        grounder = PaddedGrounder(BoxGrounder(ScoreLimit(shared, threshold), Whole()), side=60)
        grounder.ground([request("1", noise(40, 30), "cat")])
    assert detector.calls == 1
