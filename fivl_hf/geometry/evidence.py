"""The evidence of a row on its visual tokens: how much of each token every key expression's mask covers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fivl_hf.masks import BoolArray, FloatArray, MaskPart, part_coverage

__all__ = ["row_coverage"]


def row_coverage(
    image_of: Sequence[int], masks: Sequence[MaskPart], boxes: Sequence[NDArray[np.float64]]
) -> tuple[FloatArray, BoolArray]:
    """Measure the masks of a row's M key expressions under its P visual tokens, those of all images in order.

    Args:
        image_of: (M,) number of the image that each mask belongs to.
        masks: M masks, each of its image's size.
        boxes: for each image, the (P_i, 4) boxes of its visual tokens (:func:`fivl_hf.geometry.token_boxes`).

    Returns:
        (M, P) float64 mean of each mask in each token's box, 0 for tokens of other images; and (M, P) bool, whether
        the token sees the mask's image.
    """
    ends = np.cumsum([0, *map(len, boxes)])
    cover = np.zeros((len(masks), ends[-1]))
    visible = np.zeros(cover.shape, dtype=bool)
    for image, of_image in enumerate(boxes):
        expressions = [k for k, number in enumerate(image_of) if number == image]
        if expressions:
            block = np.ix_(np.array(expressions), np.arange(ends[image], ends[image + 1]))
            cover[block] = part_coverage([masks[k] for k in expressions], of_image)
            visible[block] = np.isfinite(of_image[:, 0])
    return cover, visible
