"""Token boxes: which part of the source image each visual token sees.

Everything that joins tokens to images (targets, alignment, segmentation, overlays) goes through
:func:`token_boxes`; a new model family needs nothing more than a function registered here.
"""

# Importing them registers the families.
import fivl_hf.geometry.llava
import fivl_hf.geometry.mllama
import fivl_hf.geometry.stretched  # noqa: F401
from fivl_hf.geometry.axes import Axis, UnknownProcessorError, padded_square_axes, unpadded_boxes
from fivl_hf.geometry.evidence import row_coverage
from fivl_hf.geometry.registry import register_token_boxes, token_boxes
from fivl_hf.geometry.scales import TILES, WHOLE, token_scales

__all__ = [
    "TILES",
    "WHOLE",
    "Axis",
    "UnknownProcessorError",
    "padded_square_axes",
    "register_token_boxes",
    "row_coverage",
    "token_boxes",
    "token_scales",
    "unpadded_boxes",
]
