"""Families that stretch the image: over one grid, or over tiles with a view of the whole."""

from math import ceil, isqrt
from typing import Any

import numpy as np

from fivl_hf.geometry.axes import Boxes, stretched_boxes, tile_boxes
from fivl_hf.geometry.registry import register_token_boxes

__all__: list[str] = []


def _qwen(processor: Any, size: tuple[int, int]) -> Boxes:
    """Qwen2-VL, 2.5 and 3: as many cells of merged patches as fit the pixel budget, row by row."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    image_processor = processor.image_processor
    cell = image_processor.patch_size * image_processor.merge_size
    limits = image_processor.size
    height, width = smart_resize(
        size[1], size[0], factor=cell, min_pixels=limits["shortest_edge"], max_pixels=limits["longest_edge"]
    )
    return stretched_boxes(size, (width, height), (width // cell, height // cell))


def _pixtral(processor: Any, size: tuple[int, int]) -> Boxes:
    """Pixtral and Mistral 3: within the longest edge, whole (merged) patches; row breaks have other ids."""
    cell = processor.patch_size * getattr(processor, "spatial_merge_size", 1)
    longest = processor.image_processor.size["longest_edge"]
    ratio = max(1.0, size[0] / longest, size[1] / longest)
    columns, rows = (ceil((int(side / ratio) if ratio > 1 else side) / cell) for side in size)
    return stretched_boxes(size, (columns * cell, rows * cell), (columns, rows))


def _paligemma(processor: Any, size: tuple[int, int]) -> Boxes:
    """PaliGemma: one square grid."""
    return _whole(size, processor.image_processor.size, processor.image_seq_length)


def _gemma3(processor: Any, size: tuple[int, int]) -> Boxes:
    """Gemma 3: one square grid; with pan-and-scan, one more for every crop, after the whole."""
    image_processor, tokens = processor.image_processor, processor.image_seq_length
    boxes = [_whole(size, image_processor.size, tokens)]
    if _setting(processor, "do_pan_and_scan"):
        from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

        # The processor's own rule, which only one of its backends has as a function, on an image without memory.
        blank = np.broadcast_to(np.uint8(0), (1, size[1], size[0]))
        rule = ("min_crop_size", "max_num_crops", "min_ratio_to_activate")
        settings = [_setting(processor, f"pan_and_scan_{name}") for name in rule]
        crops = Gemma3ImageProcessorPil.pan_and_scan(image_processor, blank, *settings)
        x = y = 0
        for crop in crops:
            height, width = crop.shape[1:]
            boxes.append(_whole((width, height), image_processor.size, tokens) + [x, y, x, y])
            x, y = (x + width, y) if size[0] >= size[1] else (x, y + height)
    return np.concatenate(boxes)


def _internvl(processor: Any, size: tuple[int, int]) -> Boxes:
    """InternVL: tiles row by row, then the whole image; one tile stands for the whole."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    image_processor, tokens = processor.image_processor, processor.image_seq_length
    whole = _whole(size, image_processor.size, tokens)
    if not _setting(processor, "crop_to_patches"):
        return whole
    side = image_processor.size["width"], image_processor.size["height"]
    tiles = get_optimal_tiled_canvas(size[::-1], side[::-1], image_processor.min_patches, image_processor.max_patches)
    return whole if tiles == (1, 1) else np.concatenate([*tile_boxes(size, tiles, side, isqrt(tokens)), whole])


def _idefics3(processor: Any, size: tuple[int, int]) -> Boxes:
    """Idefics3 and SmolVLM: tiles row by row, then the whole image; marks between them have other ids."""
    image_processor, tokens = processor.image_processor, processor.image_seq_len
    side = image_processor.max_image_size["longest_edge"]
    whole = _whole(size, {"width": side, "height": side}, tokens)
    if not image_processor.do_image_splitting:
        return whole
    width, height = _idefics3_size(image_processor, size)
    tiles = _idefics3_tiles(width, height, side)
    return whole if tiles == (1, 1) else np.concatenate([*tile_boxes(size, tiles, (side, side), isqrt(tokens)), whole])


def _idefics3_size(image_processor: Any, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) after the first resize, by transformers' own rule."""
    from transformers.models.idefics3.image_processing_pil_idefics3 import get_resize_output_image_size

    if not image_processor.do_resize:
        return size
    blank = np.broadcast_to(np.uint8(0), (1, size[1], size[0]))
    height, width = get_resize_output_image_size(blank, resolution_max_side=image_processor.size["longest_edge"])
    return width, height


def _idefics3_tiles(width: int, height: int, side: int) -> tuple[int, int]:
    """Return columns and rows: the longer side is rounded up to tiles, and the shorter one after it."""
    ratio = width / height
    if width >= height:
        columns = ceil(width / side)
        return columns, ceil(int(columns * side / ratio) / side)
    rows = ceil(height / side)
    return ceil(int(rows * side * ratio) / side), rows


def _setting(processor: Any, name: str) -> Any:
    """Return a setting as the processor passes it on: some have a default of their own over the image processor's."""
    own = getattr(processor, "images_kwargs", {})
    return own[name] if name in own else getattr(processor.image_processor, name)


def _whole(size: tuple[int, int], processed: Any, tokens: int) -> Boxes:
    side = isqrt(tokens)
    return stretched_boxes(size, (processed["width"], processed["height"]), (side, side))


for _name in ("Qwen2VLProcessor", "Qwen2_5_VLProcessor", "Qwen3VLProcessor"):
    register_token_boxes(_name, _qwen)
register_token_boxes("PixtralProcessor", _pixtral)
register_token_boxes("PaliGemmaProcessor", _paligemma)
register_token_boxes("Gemma3Processor", _gemma3, whole=lambda processor: processor.image_seq_length)
register_token_boxes("InternVLProcessor", _internvl, whole=lambda processor: -processor.image_seq_length)
for _name in ("Idefics3Processor", "SmolVLMProcessor"):
    register_token_boxes(_name, _idefics3, whole=lambda processor: -processor.image_seq_len)
