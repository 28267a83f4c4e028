"""Images seen at two scales: by the tokens of a tile, and again by those of a view of the whole."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivl_hf.geometry.axes import Boxes
from fivl_hf.geometry.registry import whole_view

__all__ = ["TILES", "WHOLE", "token_scales"]

TILES, WHOLE = "tiles", "whole"


def token_scales(processor: Any, boxes: Boxes) -> NDArray[np.str_]:
    """Return the scale at which each visual token of one image sees it.

    Args:
        boxes: (N, 4), of :func:`~fivl_hf.geometry.token_boxes`.

    Returns:
        (N,) ``"whole"`` or ``"tiles"``; empty strings for tokens that see nothing, and for all of them where there is
        one view only, or where it is not known which is which (probed processors).
    """
    sees = np.isfinite(boxes[:, 0])
    count = whole_view(processor)
    whole = np.zeros(len(boxes), dtype=bool)
    whole[:count] = count > 0
    whole[len(boxes) + min(count, 0) :] = count < 0
    if not (sees & whole).any() or not (sees & ~whole).any():
        return np.full(len(boxes), "", dtype="<U5")
    return np.where(sees, np.where(whole, WHOLE, TILES), "")
