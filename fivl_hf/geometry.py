"""Token boxes: which part of the source image each visual token sees.

Everything that joins tokens to pictures (targets, alignment, segmentation, overlays) goes through
:func:`token_boxes`; a new model family needs nothing more than a function registered here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Axis", "UnknownProcessorError", "padded_square_axes", "register_token_boxes", "token_boxes"]

Boxes = NDArray[np.float64]
BoxFunction = Callable[[Any, tuple[int, int]], Boxes]

_REGISTRY: dict[str, BoxFunction] = {}


class UnknownProcessorError(ValueError):
    """No token boxes are known for a processor."""


def register_token_boxes(processor_class: str, function: BoxFunction) -> None:
    """Teach :func:`token_boxes` a processor class.

    Args:
        processor_class: its class name, such as ``"LlavaProcessor"``.
        function: takes (processor, (width, height)) and returns (tokens, 4), as :func:`token_boxes` does.
    """
    _REGISTRY[processor_class] = function


def token_boxes(processor: Any, image_size: tuple[int, int]) -> Boxes:
    """The source-image box that each visual token of one image sees.

    Args:
        processor: the model's processor (image processor and tokenizer together).
        image_size: (width, height) of the source image in pixels.

    Returns:
        float64 (tokens, 4), in the order of the image placeholders in ``input_ids``: x0, y0, x1, y1 in source
        pixels, clipped to the image; NaN for tokens that see none of it (padding, class token).

    Raises:
        UnknownProcessorError: naming the class and how to register it.
        ValueError: an image size that is not two positive numbers.
    """
    width, height = image_size
    if width < 1 or height < 1:
        raise ValueError(f"image_size is (width, height) in pixels, got {image_size}")
    name = type(processor).__name__
    if name not in _REGISTRY:
        raise UnknownProcessorError(
            f"token boxes are not known for {name}. Known: {', '.join(sorted(_REGISTRY))}. Register yours with "
            f"fivl_hf.geometry.register_token_boxes({name!r}, function), where function(processor, (width, height)) "
            "returns the (tokens, 4) source-pixel boxes of one image's visual tokens."
        )
    return _REGISTRY[name](processor, (int(width), int(height)))


@dataclass(frozen=True)
class Axis:
    """One side of the picture on its way through an image processor: source pixels <-> processed pixels.

    ``processed = (source + pad) * scale - offset``; ``length`` is the processed side.
    """

    source: int
    pad: float
    scale: float
    offset: int
    length: int

    def to_source(self, processed: ArrayLike) -> NDArray[np.float64]:
        """Source coordinates of processed ones, clipped to the image."""
        return ((np.asarray(processed, dtype=np.float64) + self.offset) / self.scale - self.pad).clip(0, self.source)

    def cells(self, patch: int) -> NDArray[np.float64]:
        """Source intervals of consecutive patches: (cells, 2), clipped to the image; NaN where wholly outside."""
        edges = np.arange(self.length // patch + 1) * float(patch)
        in_source = self.to_source(edges)
        cells = np.stack([in_source[:-1], in_source[1:]], axis=1)
        # Rounding must not leave a sliver of a cell that lies wholly in the padding.
        cells[cells[:, 1] - cells[:, 0] < 1e-6] = np.nan
        return cells


def padded_square_axes(size: tuple[int, int], side: int) -> tuple[Axis, Axis]:
    """The x and y axis of a picture (width, height) that LLaVA's padding makes a square, resized to ``side``."""
    square = max(size)
    x, y = (
        Axis(source=length, pad=(square - length) // 2, scale=side / square, offset=0, length=side) for length in size
    )
    return x, y


def _llava(processor: Any, size: tuple[int, int]) -> Boxes:
    """LLaVA-1.5: one row-major grid of patches over the processed image, perhaps with a class token before it."""
    horizontal, vertical = _single_view(processor.image_processor, size)
    patch = processor.patch_size
    if not patch:
        raise ValueError("the processor's patch_size is not set, so its visual tokens cannot be placed")
    columns, rows = horizontal.cells(patch), vertical.cells(patch)
    x = np.broadcast_to(columns[None], (len(rows), len(columns), 2))
    y = np.broadcast_to(rows[:, None], (len(rows), len(columns), 2))
    grid = np.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1).reshape(-1, 4)
    grid[np.isnan(grid).any(axis=1)] = np.nan
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
    """Where the crop starts on the resized side; negative when a side that is too short is padded instead."""
    if crop <= length:
        return (length - crop) // 2
    missing = crop - length
    # The PIL backend puts the odd pixel before the picture, the torchvision backend after it.
    return -(missing // 2) if pads_missing_evenly else -ceil(missing / 2)


register_token_boxes("LlavaProcessor", _llava)
