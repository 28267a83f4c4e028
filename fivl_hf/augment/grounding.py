"""Grounders: images and expressions in, the evidence for each expression out.

Shapes: N boxes as (x0, y0, x1, y1) in pixels of the image as it is shown, masks (H, W) bool.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fivl_hf.augment.inputs.conversations import ImageSource
from fivl_hf.geometry import padded_square_axes, unpadded_boxes
from fivl_hf.images import PADDED_SIDE, padded_square
from fivl_hf.masks import BoolArray, FloatArray, box_iou

__all__ = [
    "WITHOUT_MODELS",
    "BoxGrounder",
    "Detection",
    "Detector",
    "Grounder",
    "Grounding",
    "GroundingRequest",
    "PaddedGrounder",
    "Segmenter",
    "clean_mask",
    "distinct_boxes",
    "share_masks",
]

# What a message suggests where a grounder's models cannot be had.
WITHOUT_MODELS = "ground by masks that exist already (--grounder annotations)"

# IoU above which two boxes, or two masks, count as one.
SAME = 0.95


@dataclass(frozen=True)
class GroundingRequest:
    """One sample's images and the expressions to find in them.

    Attributes:
        id: of the sample.
        images: RGB, upright.
        sources: where the images come from; annotations know them by their names.
        expressions: as written; the same words may come more than once.
    """

    id: str
    images: tuple[Image.Image, ...]
    sources: tuple[ImageSource, ...]
    expressions: tuple[str, ...]


@dataclass(frozen=True)
class Grounding:
    """The evidence of an expression in an image: a (H, W) mask, its boxes in pixels, the detector's best score."""

    mask: BoolArray
    boxes: tuple[tuple[float, float, float, float], ...]
    score: float | None = None
    image: int = 0


class Grounder(Protocol):
    """Finds the evidence for the expressions of several samples at once.

    For each sample one entry per expression, in order; None for one of which nothing is detected.
    """

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]: ...


@dataclass(frozen=True)
class Detection:
    """A detector's boxes (N, 4) for one label in one image, and their scores (N,)."""

    boxes: FloatArray
    scores: FloatArray


class Detector(Protocol):
    """Finds boxes for labels: (image, label) pairs in, one detection each out."""

    def detect(self, pairs: Sequence[tuple[Image.Image, str]]) -> list[Detection]: ...


class Segmenter(Protocol):
    """Turns boxes (N, 4) of an image into masks: one (H, W) bool for each, in order, as they are made.

    They come one by one, because the masks of all boxes of a large photograph would not fit into memory.
    """

    def segment(self, image: Image.Image, boxes: FloatArray) -> Iterator[BoolArray]:
        """Yield a (H, W) mask for each of the boxes (N, 4), in source pixels."""
        ...


class BoxGrounder:
    """A detector's boxes turned into masks by a segmenter, as in the paper.

    Boxes of an image with IoU > 0.95 are one box shared by their labels. Every box's mask is cleaned; the masks of an
    expression's boxes are united; united masks with IoU > 0.95 become one. Of several images, an expression is
    grounded in the one where the detector is surest.
    """

    def __init__(self, detector: Detector, segmenter: Segmenter) -> None:
        self._detector, self._segmenter = detector, segmenter

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]:
        places = [
            (number, image, label)
            for number, request in enumerate(requests)
            for label in dict.fromkeys(request.expressions)
            for image in range(len(request.images))
        ]
        found = self._detector.detect([(requests[n].images[image], label) for n, image, label in places])
        best: list[dict[str, tuple[int, Detection]]] = [{} for _ in requests]
        for (number, image, label), detection in zip(places, found, strict=True):
            inside = _inside(detection, requests[number].images[image].size)
            known = best[number].get(label)
            if len(inside.boxes) and (known is None or inside.scores.max() > known[1].scores.max()):
                best[number][label] = (image, inside)
        return [self._sample(request, detections) for request, detections in zip(requests, best, strict=True)]

    def _sample(
        self, request: GroundingRequest, detections: dict[str, tuple[int, Detection]]
    ) -> list[Grounding | None]:
        grounded: dict[str, Grounding] = {}
        for index, image in enumerate(request.images):
            in_image = {label: detection for label, (place, detection) in detections.items() if place == index}
            grounded.update(self._image(image, index, in_image))
        return [grounded.get(text) for text in request.expressions]

    def _image(self, image: Image.Image, index: int, detections: dict[str, Detection]) -> dict[str, Grounding]:
        if not detections:
            return {}
        scores = np.concatenate([detection.scores for detection in detections.values()])
        # Of two nearly equal boxes the surer one stays, whichever expression it was found for.
        surest = np.argsort(-scores, kind="stable")
        kept, sorted_member = distinct_boxes(np.concatenate([each.boxes for each in detections.values()])[surest])
        member = np.empty_like(sorted_member)
        member[surest] = sorted_member
        ends = np.cumsum([0, *(len(detection.boxes) for detection in detections.values())])
        members = {
            label: list(dict.fromkeys(member[start:end].tolist()))
            for label, (start, end) in zip(detections, pairwise(ends), strict=True)
        }
        united = {label: np.zeros((image.height, image.width), dtype=bool) for label in detections}
        filled = []
        for number, mask in enumerate(self._segmenter.segment(image, kept)):
            cleaned = clean_mask(mask)
            filled.append(cleaned.any())
            for label in (label for label, own in members.items() if number in own):
                united[label] |= cleaned
        groundings: dict[str, Grounding] = {}
        for label, detection in detections.items():
            own = [number for number in members[label] if filled[number]]
            if own:
                corners = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in kept[own])
                score = float(np.clip(detection.scores.max(), 0, 1))
                groundings[label] = Grounding(united[label], corners, score, index)
        return share_masks(groundings)


class PaddedGrounder:
    """A grounder that sees images as LLaVA does: padded to a square with CLIP's mean colour, resized to 336×336.

    The paper's released masks were made this way. What is found comes back in pixels of the source image.
    """

    def __init__(self, grounder: Grounder, side: int = PADDED_SIDE) -> None:
        self._grounder, self._side = grounder, side

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]:
        padded = [
            replace(request, images=tuple(padded_square(image, self._side) for image in request.images))
            for request in requests
        ]
        return [
            [grounding and self._unpadded(grounding, request.images[grounding.image].size) for grounding in groundings]
            for request, groundings in zip(requests, self._grounder.ground(padded), strict=True)
        ]

    def _unpadded(self, grounding: Grounding, size: tuple[int, int]) -> Grounding | None:
        """Return evidence in source pixels; None if all of it is in the padding."""
        # Each source pixel takes the value at its centre.
        columns, rows = (
            np.floor((np.arange(axis.source) + 0.5 + axis.pad) * axis.scale).astype(np.intp).clip(0, self._side - 1)
            for axis in padded_square_axes(size, self._side)
        )
        mask = grounding.mask[np.ix_(rows, columns)]
        boxes = unpadded_boxes(grounding.boxes, size, self._side)
        if not mask.any() or not len(boxes):
            return None
        return replace(grounding, mask=mask, boxes=tuple((a, b, c, d) for a, b, c, d in boxes.tolist()))


def distinct_boxes(boxes: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """Return boxes (N, 4) without near copies (IoU > 0.95 with an earlier one): kept (K, 4), index into them (N,)."""
    kept: list[int] = []
    member = np.zeros(len(boxes), dtype=np.intp)
    overlaps = box_iou(boxes, boxes)
    for i in range(len(boxes)):
        same = next((k for k, j in enumerate(kept) if overlaps[i, j] > SAME), None)
        member[i] = len(kept) if same is None else same
        if same is None:
            kept.append(i)
    return boxes[kept], member


def share_masks(groundings: dict[str, Grounding]) -> dict[str, Grounding]:
    """Replace each mask of one image whose IoU with an earlier mask is over 0.95 by that mask."""
    shared: dict[str, Grounding] = {}
    for label, grounding in groundings.items():
        for earlier in shared.values():
            if _nearly_same(grounding.mask, earlier.mask):
                grounding = replace(grounding, mask=earlier.mask)
                break
        shared[label] = grounding
    return shared


def _nearly_same(a: BoolArray, b: BoolArray) -> bool:
    smaller, larger = sorted((np.count_nonzero(a), np.count_nonzero(b)))
    if smaller <= SAME * larger:
        return False
    shared = np.count_nonzero(a & b)
    return bool(shared > SAME * (smaller + larger - shared))


def clean_mask(mask: BoolArray, smallest: float = 0.1) -> BoolArray:
    """Fill the mask's outer contours that hold more than a share of the largest one's pixels; drop the others.

    Args:
        mask: (H, W) bool.
        smallest: that share, 0 to 1; 0.1 in the paper.

    Returns:
        (H, W) bool.

    Raises:
        ImportError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError("cleaning masks needs OpenCV: `pip install fivl-hf[augment]`") from error
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return np.zeros_like(mask)
    # Pick's theorem: pixels of a filled outline = its area + half its points + 1. A lone pixel has no outline.
    pixels = [cv2.contourArea(outline) + (len(outline) / 2 if len(outline) > 1 else 0) + 1 for outline in outlines]
    least = smallest * max(pixels)
    large = [outline for outline, size in zip(outlines, pixels, strict=True) if size > least]
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.drawContours(filled, large, -1, 1, thickness=cv2.FILLED)
    return filled.astype(bool)


def _inside(detection: Detection, size: tuple[int, int]) -> Detection:
    """Return the detection with boxes clipped to the image, without those left empty."""
    width, height = size
    boxes = np.clip(detection.boxes.reshape(-1, 4), 0, np.array([width, height, width, height], dtype=np.float64))
    valid = np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detection(boxes[valid], detection.scores[valid])
