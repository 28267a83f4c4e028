"""One detector for several thresholds."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from fivl_hf.augment.grounding import Detection, Detector

__all__ = ["ScoreLimit", "SharedDetector"]


class SharedDetector:
    """A detector that remembers its last answer, for grounders that ask it the same one after the other."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._pairs: list[tuple[Image.Image, str]] = []
        self._detections: list[Detection] = []

    def detect(self, pairs: Sequence[tuple[Image.Image, str]]) -> list[Detection]:
        # Pillow compares pixels: a padded image is another object for each grounder.
        if list(pairs) != self._pairs:
            self._pairs, self._detections = list(pairs), self._detector.detect(pairs)
        return self._detections


class ScoreLimit:
    """A detector's boxes whose score is at least a threshold."""

    def __init__(self, detector: Detector, threshold: float) -> None:
        self._detector, self._threshold = detector, threshold

    def detect(self, pairs: Sequence[tuple[Image.Image, str]]) -> list[Detection]:
        return [self._kept(each) for each in self._detector.detect(pairs)]

    def _kept(self, detection: Detection) -> Detection:
        sure = np.asarray(detection.scores) >= self._threshold
        return Detection(detection.boxes[sure], detection.scores[sure])
