"""Where the same part of an image is seen twice: by the tokens of a tile and by those of a view of the whole."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivl_hf.geometry.axes import Boxes

__all__ = ["TILES", "WHOLE", "token_scales"]

TILES, WHOLE = "tiles", "whole"
_ALIKE = 1.3  # views whose cells differ in area by less than this factor are of one scale


def token_scales(boxes: ArrayLike) -> NDArray[np.str_]:
    """The scale at which each visual token of one image sees it.

    Args:
        boxes: (N, 4) as :func:`~fivl_hf.geometry.token_boxes` gives them.

    Returns:
        (N,) ``"whole"`` for tokens with the largest cells and ``"tiles"`` for all others; empty strings for tokens
        that see nothing, and for all of them where there is one scale only.
    """
    values = np.asarray(boxes, dtype=np.float64)
    scales = np.full(len(values), "", dtype="<U5")
    sees = np.flatnonzero(np.isfinite(values[:, 0]))
    if not len(sees):
        return scales
    seen = values[sees]
    # A view is read from top to bottom: where a token lies higher than the one before, another view begins.
    views = np.concatenate([[0], np.cumsum(seen[1:, 1] < seen[:-1, 1] - 1e-6)])
    areas = np.array([_cell_area(seen[views == view]) for view in range(views[-1] + 1)])
    if areas.max() < _ALIKE * areas.min():
        return scales
    scales[sees] = np.where(areas[views] * _ALIKE > areas.max(), WHOLE, TILES)
    return scales


def _cell_area(boxes: Boxes) -> float:
    """From one token to the next, across and down: boxes of interpolated features are larger than that."""
    steps = []
    for start, end in ((0, 2), (1, 3)):
        edges = np.unique(boxes[:, start].round(3))
        # The median, because cells at an edge may be cut.
        steps.append(np.median(np.diff(edges)) if len(edges) > 1 else np.median(boxes[:, end] - boxes[:, start]))
    return float(steps[0] * steps[1])
