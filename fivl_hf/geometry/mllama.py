"""Mllama: no visual tokens in the sequence; the language model looks at tiles through cross-attention."""

from typing import Any

import numpy as np

from fivl_hf.geometry.axes import Axis, Boxes, grid_boxes
from fivl_hf.geometry.registry import register_token_boxes

__all__: list[str] = []

# That of every published checkpoint; the processor does not know it. A processor.patch_size comes first.
_PATCH_SIZE = 14


def _mllama(processor: Any, size: tuple[int, int]) -> Boxes:
    """Return the keys of one image: per tile a class token, then its patches; tiles that are not used see nothing."""
    from transformers.models.mllama.image_processing_pil_mllama import (
        get_image_size_fit_to_canvas,
        get_optimal_tiled_canvas,
    )

    image_processor = processor.image_processor
    side, most = image_processor.size["height"], image_processor.max_image_tiles
    patch = getattr(processor, "patch_size", _PATCH_SIZE)
    canvas_height, canvas_width = get_optimal_tiled_canvas(
        image_height=size[1], image_width=size[0], max_image_tiles=most, tile_size=side
    )
    height, width = get_image_size_fit_to_canvas(
        image_height=size[1],
        image_width=size[0],
        canvas_height=canvas_height,
        canvas_width=canvas_width,
        tile_size=side,
    )
    # The image lies at the canvas's top left; what is right of it and below is padding.
    horizontal = Axis(size[0], pad=0, scale=width / size[0], offset=0, length=canvas_width)
    vertical = Axis(size[1], pad=0, scale=height / size[1], offset=0, length=canvas_height)
    cells = side // patch
    columns, rows = (axis.cells(patch, tile=side).reshape(-1, cells, 2) for axis in (horizontal, vertical))
    boxes = np.full((most, 1 + cells**2, 4), np.nan)
    for tile, (row, column) in enumerate(np.ndindex(len(rows), len(columns))):
        boxes[tile, 1:] = grid_boxes(columns[column], rows[row])
    return boxes.reshape(-1, 4)


register_token_boxes("MllamaProcessor", _mllama)
