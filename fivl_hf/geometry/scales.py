"""Where the same part of an image is seen twice: by the tokens of a tile and by those of a view of the whole."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["token_scales"]

_ALIKE = 1.3  # cells whose areas differ by less than this factor are of one scale


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
    areas = (seen[:, 2] - seen[:, 0]) * (seen[:, 3] - seen[:, 1])
    # The median, because cells at an edge may be cut.
    of_view = np.array([np.median(areas[views == view]) for view in range(views[-1] + 1)])
    if of_view.max() < _ALIKE * of_view.min():
        return scales
    scales[sees] = np.where(of_view[views] * _ALIKE > of_view.max(), "whole", "tiles")
    return scales
