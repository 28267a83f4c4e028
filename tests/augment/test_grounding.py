"""Grounders: rules by hand, and the batched GroundedSam against one image, one label at a time."""

import numpy as np
from grounding_requests import noise, request, square
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.measure import label as components

from fivl_hf.augment.grounding import (
    BoxGrounder,
    Detection,
    Grounding,
    PaddedGrounder,
    clean_mask,
    distinct_boxes,
    share_masks,
)
from fivl_hf.masks import box_iou


def test_box_iou_by_hand():
    # 10×10 against its right half: 50 shared of 100; apart: 0; the same: 1; without area: 0.
    a = [[0, 0, 10, 10]]
    assert box_iou(a, [[5, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10], [3, 3, 3, 9]]).tolist() == [[0.5, 0, 1, 0]]


def test_near_copies_are_one_box():
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 96], [0, 0, 100, 90], [0, 0, 100, 99.0]])
    kept, member = distinct_boxes(boxes)
    assert kept.tolist() == [[0, 0, 100, 100], [0, 0, 100, 90]]
    assert member.tolist() == [0, 0, 1, 0]


def test_cleaning_keeps_large_outlines_and_fills_them():
    mask = square(0, 0, 10, 10)
    mask[3:6, 3:6] = False  # a hole
    mask[12:15, 12:15] = True  # 9 of 100 pixels
    mask[0:3, 12:16] = True  # 12 of 100 pixels
    expected = square(0, 0, 10, 10) | square(12, 0, 16, 3)
    assert (clean_mask(mask) == expected).all()
    assert not clean_mask(np.zeros((3, 3), dtype=bool)).any()
    assert clean_mask(np.ones((1, 1), dtype=bool)).all()


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.booleans()))
@example(np.array([[1] * 8 + [0], [0, 0, 1, 1] + [0] * 5, [1] + [0] * 8], dtype=bool))
def test_cleaning_keeps_what_pixel_counts_say(mask):
    """Pick's theorem counts the pixels of outlines; here they are counted one by one."""
    cleaned = clean_mask(mask)
    outside = components(np.pad(~mask, 1, constant_values=True), connectivity=1)
    filled = components(outside[1:-1, 1:-1] != outside[0, 0], connectivity=2)
    sizes = np.bincount(filled.ravel())[1:]
    if not len(sizes):
        assert not cleaned.any()
        return
    large = [i + 1 for i, size in enumerate(sizes) if size > 0.1 * sizes.max()]
    assert (cleaned == np.isin(filled, large)).all()


def test_masks_that_are_nearly_the_same_become_the_first():
    groundings = {
        "a": Grounding(square(0, 0, 20, 20), ()),
        "b": Grounding(square(0, 0, 20, 18), ()),
        "c": Grounding(square(0, 0, 20, 20) ^ square(0, 0, 3, 3), ()),
    }
    shared = share_masks(groundings)
    assert shared["c"].mask is groundings["a"].mask  # 391 of 400
    assert shared["b"].mask is groundings["b"].mask  # 360 of 400


class FixedDetector:
    def __init__(self, found):
        self.found = found

    def detect(self, pairs):
        boxes = [self.found.get((image.width, label), []) for image, label in pairs]
        return [Detection(np.array(b, dtype=float).reshape(-1, 4), np.linspace(0.9, 0.8, len(b))) for b in boxes]


class BoxSegmenter:
    """Masks that fill their boxes; counts how many boxes it saw."""

    def __init__(self):
        self.seen = []

    def segment(self, image, boxes):
        self.seen.append(len(boxes))
        for x0, y0, x1, y1 in boxes.astype(int):
            mask = np.zeros((image.height, image.width), dtype=bool)
            mask[y0:y1, x0:x1] = True
            yield mask


def test_boxes_of_an_expression_are_united_and_shared_ones_segmented_once():
    found = {(40, "dogs"): [[0, 0, 10, 10], [20, 0, 30, 10]], (40, "left dog"): [[0, 0, 10, 10]]}
    segmenter = BoxSegmenter()
    grounder = BoxGrounder(FixedDetector(found), segmenter)
    ((dogs, left, ghost, again),) = grounder.ground([request("1", noise(40, 20), "dogs", "left dog", "ghost", "dogs")])
    assert dogs.mask.sum() == 200
    assert dogs.boxes == ((0, 0, 10, 10), (20, 0, 30, 10))
    assert dogs.score == 0.9
    assert left.mask.sum() == 100
    assert ghost is None
    assert again == dogs
    assert segmenter.seen == [2]


def test_boxes_are_clipped_and_empty_ones_are_nothing():
    found = {(40, "a"): [[-5, -5, 10, 50]], (40, "b"): [[50, 0, 60, 10]], (40, "c"): [[3, 3, 3, 9]]}
    ((a, b, c),) = BoxGrounder(FixedDetector(found), BoxSegmenter()).ground(
        [request("1", noise(40, 20), "a", "b", "c")]
    )
    assert a.boxes == ((0, 0, 10, 20),)
    assert (b, c) == (None, None)


def test_of_several_images_the_surest_is_taken():
    class Surer(FixedDetector):
        def detect(self, pairs):
            return [
                Detection(d.boxes, d.scores * (p.width / 100))
                for d, (p, _) in zip(super().detect(pairs), pairs, strict=True)
            ]

    found = {(40, "a"): [[0, 0, 9, 9]], (50, "a"): [[0, 0, 5, 5]]}
    grounder = BoxGrounder(Surer(found), BoxSegmenter())
    ((a,),) = grounder.ground([request("1", (noise(40, 20), noise(50, 20)), "a")])
    assert a.image == 1
    assert a.mask.shape == (20, 50)


class ScoredDetector:
    """A label's boxes, each with its score."""

    def __init__(self, found):
        self.found = found

    def detect(self, pairs):
        boxes = [self.found.get(label, []) for _, label in pairs]
        return [
            Detection(np.array([b[:4] for b in each]).reshape(-1, 4), np.array([b[4] for b in each])) for each in boxes
        ]


def test_in_a_chain_of_nearly_equal_boxes_the_surest_stays():
    """100, 97 and 94 pixels wide: each nearly its neighbour, the outer two not. By score, the middle one takes both."""
    found = {"a": [[0, 0, 100, 10, 0.5]], "b": [[0, 0, 97, 10, 0.9]], "c": [[0, 0, 94, 10, 0.7]]}
    segmenter = BoxSegmenter()
    ((a, b, c),) = BoxGrounder(ScoredDetector(found), segmenter).ground([request("1", noise(120, 20), "a", "b", "c")])
    assert segmenter.seen == [1]
    assert a.boxes == b.boxes == c.boxes == ((0, 0, 97, 10),)
    assert (a.score, b.score, c.score) == (0.5, 0.9, 0.7)


def test_evidence_of_the_padded_image_comes_back_in_source_pixels():
    """A 100 × 50 image in a square of 336: scale 3.36, and 25 pixels of padding above and below."""
    seen = []

    class Everything:
        def ground(self, requests):
            seen.append(requests[0].images[0])
            whole = Grounding(np.ones((336, 336), dtype=bool), ((0, 0, 336, 336),))
            part = np.zeros((336, 336), dtype=bool)
            part[84:168, 168:] = True
            above = np.zeros((336, 336), dtype=bool)
            above[:80] = True
            return [[whole, Grounding(part, ((168, 84, 336, 168),)), Grounding(above, ((0, 0, 336, 80),)), None]]

    ((whole, part, above, nothing),) = PaddedGrounder(Everything()).ground(
        [request("1", Image.new("RGB", (100, 50), "red"), "all", "right", "above", "none")]
    )
    assert seen[0].size == (336, 336)
    assert seen[0].getpixel((168, 20)) == (122, 116, 104)
    assert seen[0].getpixel((168, 168)) == (255, 0, 0)
    assert whole.mask.shape == (50, 100) and whole.mask.all()
    assert whole.boxes == ((0, 0, 100, 50),)
    assert part.mask[:25, 50:].all() and part.mask.sum() == 25 * 50
    assert part.boxes == ((50, 0, 100, 25),)
    assert (above, nothing) == (None, None)
