"""Random boxes of the same sizes as the evidence's, as a control."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fivl_hf.masks import BoolArray, coverage, rasterize_boxes

__all__ = ["RandomBoxes", "random_boxes"]

_CANDIDATES = 256


@dataclass(frozen=True)
class RandomBoxes:
    """Boxes of given sizes at random places.

    Attributes:
        boxes: (N, 4) xyxy pixels, one for each evidence box that lies in no other.
        sources: (N, 4) those evidence boxes.
        overlap: share of their area that lies on the evidence after all, 0 to 1.
    """

    boxes: NDArray[np.float64]
    sources: NDArray[np.float64]
    overlap: float


def random_boxes(boxes: Sequence[Sequence[float]], size: tuple[int, int], seed: int | Sequence[int]) -> RandomBoxes:
    """Return boxes of the same sizes at random places inside the image, off the evidence as far as there is room.

    Each box is the first of 256 uniform draws that touches neither the evidence nor an earlier random box; where
    none does, the one that touches least of the evidence. A box that lies within another adds nothing to the evidence
    and gets no random box.

    Args:
        boxes: (N, 4) evidence boxes in pixels.
        size: (width, height) of the image.
        seed: the same seed gives the same boxes.
    """
    rng = np.random.default_rng(seed)
    evidence = rasterize_boxes(boxes, size)
    taken = np.zeros_like(evidence)
    placed, sources = [], _outermost(np.asarray(boxes, dtype=np.float64).reshape(-1, 4))
    for box in sources:
        placed.append(_place(box, evidence, taken, rng))
        taken |= rasterize_boxes(placed[-1], size)
    chosen = np.asarray(placed).reshape(-1, 4)
    on_evidence = (taken & evidence).sum() / max(taken.sum(), 1)
    return RandomBoxes(chosen, sources, float(on_evidence))


def _outermost(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the boxes that lie in no other; of equal ones the first."""
    inside = (boxes[:, None, :2] >= boxes[None, :, :2]).all(-1) & (boxes[:, None, 2:] <= boxes[None, :, 2:]).all(-1)
    same = inside & inside.T
    redundant = (inside & ~same) | (same & np.tri(len(boxes), k=-1, dtype=bool))
    return boxes[~redundant.any(axis=1)]


def _place(
    box: NDArray[np.float64], evidence: BoolArray, taken: BoolArray, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the box moved by whole pixels, so that it touches as many pixels as before."""
    corners = box.reshape(2, 2)
    least, most = np.ceil(-corners[0]), np.floor(evidence.shape[::-1] - corners[1])
    shifts = rng.integers(least, np.maximum(least, most) + 1, size=(_CANDIDATES, 2))
    candidates = (corners + shifts[:, None]).reshape(-1, 4)
    on_evidence, on_taken = coverage(np.stack([evidence, taken]), candidates)
    return candidates[np.lexsort((np.arange(_CANDIDATES), on_taken > 0, on_evidence))[0]]
