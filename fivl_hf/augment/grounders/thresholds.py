"""One detector at several thresholds, and the words of a model's predictions looked for with it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from fivl_hf.augment.grounding import Detection, Detector, Grounder, GroundingRequest
from fivl_hf.augment.inputs.conversations import StoredImage
from fivl_hf.augment.scenes import SceneImage
from fivl_hf.masks import BoolArray
from fivl_hf.scenes.rendering import scene

__all__ = ["ScoreLimit", "SharedDetector", "WordFinder"]


class SharedDetector:
    """A detector that remembers its last answer, for grounders that ask it the same one after the other."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._asked: list[tuple[Image.Image, str]] = []
        self._found: list[Detection] = []

    def detect(self, pairs: Sequence[tuple[Image.Image, str]]) -> list[Detection]:
        same = len(pairs) == len(self._asked) and all(
            image is known and label == other for (image, label), (known, other) in zip(pairs, self._asked, strict=True)
        )
        if not same:
            self._asked, self._found = list(pairs), self._detector.detect(pairs)
        return self._found


class ScoreLimit:
    """A detector's boxes whose score is at least a threshold."""

    def __init__(self, detector: Detector, threshold: float) -> None:
        self._detector, self._threshold = detector, threshold

    def detect(self, pairs: Sequence[tuple[Image.Image, str]]) -> list[Detection]:
        return [self._kept(each) for each in self._detector.detect(pairs)]

    def _kept(self, detection: Detection) -> Detection:
        sure = np.asarray(detection.scores) >= self._threshold
        return Detection(detection.boxes[sure], detection.scores[sure])


class WordFinder:
    """Finds words in images, once with each of several grounders.

    Args:
        grounders: by their threshold; None for an exact one.
        scenes: images are those of scenes, known by the rows' ids.
    """

    def __init__(self, grounders: dict[float | None, Grounder], *, scenes: bool = False) -> None:
        self._grounders, self._scenes = grounders, scenes

    @property
    def thresholds(self) -> list[float | None]:
        return list(self._grounders)

    def find(self, row_id: str, image: Image.Image, words: Sequence[str]) -> list[list[BoolArray | None]]:
        """Return, for each threshold and word, a mask (H, W), or None where nothing is detected.

        Raises:
            ValueError: with scenes, an id that is not a scene's.
        """
        source = SceneImage(scene(row_id)) if self._scenes else StoredImage(b"", row_id)
        request = GroundingRequest(row_id, (image,), (source,), tuple(words))
        return [
            [found.mask if found else None for found in grounder.ground([request])[0]]
            for grounder in self._grounders.values()
        ]
