"""LLaVA-1.5, one view of the image; LLaVA-NeXT and LLaVA-OneVision, a view and tiles."""

import re
from math import ceil, isqrt, sqrt
from typing import Any

import numpy as np

from fivl_hf.geometry.axes import Axis, Boxes, UnknownProcessorError, grid_boxes, padded_square_axes, stretched_boxes
from fivl_hf.geometry.registry import register_token_boxes

__all__: list[str] = []

_MOST_TILES = "anyres_max_"


def _llava(processor: Any, size: tuple[int, int]) -> Boxes:
    """LLaVA-1.5: one row-major grid of patches over the processed image, perhaps with a class token before it."""
    horizontal, vertical = _single_view(processor.image_processor, size)
    patch = processor.patch_size
    if not patch:
        raise ValueError("the processor's patch_size is not set, so its visual tokens cannot be placed")
    columns, rows = horizontal.cells(patch), vertical.cells(patch)
    grid = grid_boxes(columns, rows)
    extra = processor.num_additional_image_tokens - (processor.vision_feature_select_strategy == "default")
    return np.concatenate([np.full((max(extra, 0), 4), np.nan), grid])


_SINGLE_VIEW = ("CLIPImageProcessor", "LlavaImageProcessor", "SiglipImageProcessor", "ViTImageProcessor")


def _single_view(image_processor: Any, size: tuple[int, int]) -> tuple[Axis, Axis]:
    """Pad to square, resize, centre crop: each as far as this image processor does it. Returns (x axis, y axis)."""
    name = type(image_processor).__name__
    if name.removesuffix("Fast").removesuffix("Pil") not in _SINGLE_VIEW:
        raise UnknownProcessorError(
            f"token boxes are not known for image processor {name} (known: {', '.join(_SINGLE_VIEW)}). Register the "
            "whole processor with fivl_hf.geometry.register_token_boxes."
        )
    pads, padded = (0, 0), size
    if name.startswith("Llava") and getattr(image_processor, "do_pad", False):
        side = max(size)
        pads, padded = ((side - size[0]) // 2, (side - size[1]) // 2), (side, side)
    resized = _resized(image_processor, padded) if image_processor.do_resize else padded
    final = resized
    if getattr(image_processor, "do_center_crop", False):
        crop = image_processor.crop_size
        final = (crop["width"], crop["height"])
    pads_missing_evenly = not name.endswith("Pil")
    horizontal, vertical = (
        Axis(
            source=size[i],
            pad=pads[i],
            scale=resized[i] / padded[i],
            offset=_crop_offset(resized[i], final[i], pads_missing_evenly),
            length=final[i],
        )
        for i in (0, 1)
    )
    return horizontal, vertical


def _resized(image_processor: Any, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) after the processor's resize, by transformers' own rules for each form of ``size``."""
    from transformers.image_transforms import get_size_with_aspect_ratio

    width, height = size
    target = image_processor.size
    shortest, longest = target.get("shortest_edge"), target.get("longest_edge")
    if shortest and longest:
        new_height, new_width = get_size_with_aspect_ratio((height, width), shortest, longest)
        return new_width, new_height
    if shortest:
        short, long = min(size), max(size)
        new_long = int(shortest * long / short)
        return (shortest, new_long) if width <= height else (new_long, shortest)
    if target.get("height") and target.get("width"):
        return target["width"], target["height"]
    raise UnknownProcessorError(
        f"{type(image_processor).__name__}.size = {dict(target)} is neither an edge nor a height and width"
    )


def _crop_offset(length: int, crop: int, pads_missing_evenly: bool) -> int:
    """Return where the crop starts on the resized side; negative when a side that is too short is padded instead."""
    if crop <= length:
        return (length - crop) // 2
    missing = crop - length
    # The PIL backend puts the odd pixel before the image, the torchvision backend after it.
    return -(missing // 2) if pads_missing_evenly else -ceil(missing / 2)


def _llava_next(processor: Any, size: tuple[int, int]) -> Boxes:
    """LLaVA-NeXT: the whole image, stretched, then the tiles' cells stitched and without padding.

    Every stitched row ends with a newline token, which has the image tokens' id and sees nothing.
    """
    image_processor, patch = processor.image_processor, processor.patch_size
    side = image_processor.crop_size["height"]
    if _edge(image_processor.size) != side or not patch:
        raise UnknownProcessorError(
            f"token boxes of LLaVA-NeXT are known where size ({dict(image_processor.size)}) and crop_size ({side}) are "
            "the same and patch_size is set. Register others with fivl_hf.geometry.register_token_boxes."
        )
    base = stretched_boxes(size, (side, side), (side // patch, side // patch))
    horizontal, vertical = _best_fit(size, image_processor.image_grid_pinpoints)
    columns, rows = _without_padding(horizontal.cells(patch), vertical.cells(patch), size)
    return np.concatenate([base, _with_newlines(columns, rows)])


def _next_whole(processor: Any) -> int:
    return (processor.image_processor.crop_size["height"] // processor.patch_size) ** 2


def _with_newlines(columns: Boxes, rows: Boxes) -> Boxes:
    """Return cells row by row, with one more token, which sees nothing, at the end of each row."""
    return grid_boxes(np.concatenate([columns, np.full((1, 2), np.nan)]), rows)


def _onevision(processor: Any, size: tuple[int, int]) -> Boxes:
    """LLaVA-OneVision, one image: as LLaVA-NeXT, but large grids are made smaller by bilinear interpolation.

    The box of an interpolated token is that of the cells it is a mixture of, two by two as a rule: about twice the
    distance between neighbouring tokens, so that their boxes overlap.
    """
    side, cells = _onevision_grid(processor)
    base = stretched_boxes(size, (side, side), (cells, cells))
    horizontal, vertical = _best_fit(size, processor.image_processor.image_grid_pinpoints)
    patch = side // cells
    columns, rows = _without_padding(horizontal.cells(patch, tile=side), vertical.cells(patch, tile=side), size)
    tiles = int(processor.vision_aspect_ratio.removeprefix(_MOST_TILES))
    ratio = sqrt(len(columns) * len(rows) / (tiles * cells**2))
    if ratio > 1.1:
        columns, rows = (_interpolated(part, int(len(part) // ratio)) for part in (columns, rows))
    return np.concatenate([base, _with_newlines(columns, rows)])


def _onevision_whole(processor: Any) -> int:
    return processor.num_image_tokens


def _onevision_several(processor: Any, size: tuple[int, int]) -> Boxes:
    """LLaVA-OneVision, one of several images: padded to a square, without tiles, and a newline token at the end."""
    side, cells = _onevision_grid(processor)
    columns, rows = (axis.cells(side // cells) for axis in padded_square_axes(size, side))
    return np.concatenate([grid_boxes(columns[:cells], rows[:cells]), np.full((1, 4), np.nan)])


def _onevision_grid(processor: Any) -> tuple[int, int]:
    """Return a tile's side in pixels and in cells; pixels beyond the last whole cell are seen by none."""
    size = processor.image_processor.size
    side, cells = _edge(size), isqrt(processor.num_image_tokens)
    tiles = processor.vision_aspect_ratio
    if (
        not side
        or size.get("width", side) not in (side, None)
        or processor.vision_feature_select_strategy != "full"
        or not re.fullmatch(_MOST_TILES + r"\d+", tiles)
    ):
        raise UnknownProcessorError(
            f"token boxes of LLaVA-OneVision are known where image_processor.size is square, "
            f"vision_feature_select_strategy is 'full' and vision_aspect_ratio is 'anyres_max_N', not {dict(size)}, "
            f"{processor.vision_feature_select_strategy!r} and {tiles!r}. Register others with "
            "fivl_hf.geometry.register_token_boxes."
        )
    return side, cells


def _interpolated(cells: Boxes, count: int) -> Boxes:
    """Return intervals of the cells that each of ``count`` interpolated ones is mixed from (half-pixel centres)."""
    place = np.maximum((np.arange(count) + 0.5) * (len(cells) / count) - 0.5, 0)
    first = np.floor(place).astype(np.intp)
    last = np.minimum(np.ceil(place).astype(np.intp), len(cells) - 1)
    return np.stack(
        [np.fmin(cells[first, 0], cells[last, 0]), np.fmax(cells[first, 1], cells[last, 1])],
        axis=1,
    )


def _edge(size: Any) -> int | None:
    return size.get("height") or size.get("shortest_edge")


def _best_fit(size: tuple[int, int], pinpoints: Any) -> tuple[Axis, Axis]:
    """Return the x and y axis of an image that keeps its shape, centred on the canvas of tiles that fits it best."""
    from transformers.image_processing_utils import select_best_resolution

    canvas = select_best_resolution(size[::-1], pinpoints)[::-1]
    ratios = canvas[0] / size[0], canvas[1] / size[1]
    scale = min(ratios)
    lengths = (
        (canvas[0], min(ceil(size[1] * scale), canvas[1]))
        if ratios[0] < ratios[1]
        else (min(ceil(size[0] * scale), canvas[0]), canvas[1])
    )
    x, y = (
        Axis(source, pad=0, scale=length / source, offset=-((whole - length) // 2), length=whole)
        for source, length, whole in zip(size, lengths, canvas, strict=True)
    )
    return x, y


def _without_padding(columns: Boxes, rows: Boxes, size: tuple[int, int]) -> tuple[Boxes, Boxes]:
    """Return what the model keeps of the canvas, counted in cells as it counts them (``unpad_image``)."""
    width, height = size
    if width / height > len(columns) / len(rows):
        padding = (len(rows) - int(round(height * (len(columns) / width), 7))) // 2
        return columns, rows[padding : len(rows) - padding]
    padding = (len(columns) - int(round(width * (len(rows) / height), 7))) // 2
    return columns[padding : len(columns) - padding], rows


register_token_boxes("LlavaProcessor", _llava)
register_token_boxes("LlavaNextProcessor", _llava_next, whole=_next_whole)
register_token_boxes("LlavaOnevisionProcessor", _onevision, several=_onevision_several, whole=_onevision_whole)
