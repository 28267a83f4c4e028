"""Masks: 1-bit PNG and array, boxes, unions, overlaps, and the coverage of many boxes by many masks.

Shapes: M masks of height H and width W, N boxes as (x0, y0, x1, y1) in pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from fivl_hf.images import image_bytes, open_image, rgb

__all__ = [
    "BoolArray",
    "FloatArray",
    "MaskPart",
    "box_iou",
    "coverage",
    "decode_mask",
    "decode_part",
    "encode_mask",
    "mask_boxes",
    "mask_part",
    "paint_tokens",
    "part_coverage",
    "rasterize_boxes",
    "union",
]

_NOISE = 1e-9
_EIGHT_BITS = ("1", "L", "LA", "P", "RGB", "RGBA")

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


def encode_mask(mask: ArrayLike) -> bytes:
    """Return a boolean (H, W) mask as a bilevel PNG, about 0.7 KB for a photograph-sized one.

    Raises:
        ValueError: another shape or dtype.
    """
    array = np.asarray(mask)
    if array.ndim != 2 or array.dtype != bool:
        raise ValueError(f"a mask is a boolean (H, W) array, got {array.dtype} of shape {array.shape}")
    return image_bytes(Image.fromarray(array), "PNG", optimize=True)


def decode_mask(value: Any) -> BoolArray:
    """Return a mask in any stored form (PNG bytes, path, ``{"bytes", "path"}``, PIL image) as a boolean (H, W) array.

    Grey masks count as set from 128 up; one of zeros and ones, as label tools write them, from 1 up.
    """
    image = open_image(value)
    if image.mode == "1":
        return np.asarray(image)
    # Whatever is not 8 bits is scaled to 8 bits first.
    grey = np.asarray((image if image.mode in _EIGHT_BITS else rgb(image)).convert("L"))
    return grey >= (128 if grey.max(initial=0) > 1 else 1)


@dataclass(frozen=True)
class MaskPart:
    """A mask without the empty margins around what it covers; much smaller than its image, as a rule.

    Attributes:
        pixels: (h, w) bool.
        left, top: where they begin in the image.
        size: (width, height) of the image.
    """

    pixels: BoolArray
    left: int
    top: int
    size: tuple[int, int]


def decode_part(value: Any) -> MaskPart:
    """Decode a mask as :func:`decode_mask` does, without its empty margins."""
    image = open_image(value)
    return _part(image if image.mode == "1" else Image.fromarray(decode_mask(image)))


def mask_part(mask: BoolArray) -> MaskPart:
    """Return a (H, W) mask without the empty margins."""
    return _part(Image.fromarray(mask))


def _part(bilevel: Image.Image) -> MaskPart:
    box = bilevel.getbbox() or (0, 0, 0, 0)
    return MaskPart(np.asarray(bilevel.crop(box)), box[0], box[1], bilevel.size)


def mask_boxes(masks: ArrayLike) -> FloatArray:
    """Return the tightest box around each mask: (M, H, W) bool -> (M, 4); NaN for an empty mask."""
    stack = _stack(masks)
    if not stack.size:
        return np.full((len(stack), 4), np.nan)
    columns, rows = (np.asarray(stack.any(axis=axis)) for axis in (1, 2))
    x0, y0 = columns.argmax(axis=1), rows.argmax(axis=1)
    x1 = columns.shape[1] - columns[:, ::-1].argmax(axis=1)
    y1 = rows.shape[1] - rows[:, ::-1].argmax(axis=1)
    boxes = np.stack([x0, y0, x1, y1], axis=1).astype(np.float64)
    boxes[~columns.any(axis=1)] = np.nan
    return boxes


def union(masks: Iterable[BoolArray]) -> BoolArray:
    """Return one mask that is set wherever any of the given masks is: M of (H, W) bool -> (H, W) bool."""
    return np.asarray(np.stack(list(masks)).any(axis=0))


def rasterize_boxes(boxes: ArrayLike, size: tuple[int, int]) -> BoolArray:
    """Return the pixels that any of the boxes touches: (N, 4), (width, height) -> (H, W) bool."""
    width, height = size
    mask = np.zeros((height, width), dtype=bool)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        mask[max(0, int(np.floor(y0))) : int(np.ceil(y1)), max(0, int(np.floor(x0))) : int(np.ceil(x1))] = True
    return mask


def coverage(masks: ArrayLike, boxes: ArrayLike) -> FloatArray:
    """Measure the mean of each mask in each box: (M, H, W) bool, (N, 4) -> float64 (M, N); :func:`part_coverage`."""
    return part_coverage([mask_part(mask) for mask in _stack(masks)], boxes)


def part_coverage(parts: Sequence[MaskPart], boxes: ArrayLike) -> FloatArray:
    """Return the mean of each of M masks inside each box: (N, 4) -> float64 (M, N).

    A mask is taken as constant over each pixel and 0 outside the image, so boxes may lie between pixels. The
    integral over a box is four look-ups in the mask's summed-area table, whose bilinear interpolation is exact.
    Boxes with NaN or without area have coverage 0.

    Raises:
        ValueError: boxes of another shape.
    """
    corners = np.asarray(boxes, dtype=np.float64)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), got {corners.shape}")
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    valid = np.isfinite(corners).all(axis=1) & (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    corners = np.where(valid[:, None], corners, 0.0)
    total = np.array([_inside(part, corners) for part in parts]).reshape(len(parts), len(corners))
    mean = total / np.where(valid, area, 1.0)
    # The four look-ups of a box that the mask does not touch may leave rounding noise.
    mean[mean < _NOISE] = 0.0
    return np.where(valid, np.clip(mean, 0.0, 1.0), 0.0)


def _inside(mask: MaskPart, corners: FloatArray) -> FloatArray:
    """Return the mask's area inside each box: (N, 4) -> (N,)."""
    height, width = mask.pixels.shape
    x0, y0, x1, y1 = (corners - [mask.left, mask.top, mask.left, mask.top]).T
    # Most boxes do not meet a part at all: the look-ups are for those that do.
    meets = np.flatnonzero((x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height))
    # 32 bits count the pixels of any image that Pillow opens.
    table = np.zeros((height + 1, width + 1), dtype=np.int32)
    np.cumsum(mask.pixels, axis=1, out=table[1:, 1:], dtype=np.int32)
    np.cumsum(table[1:, 1:], axis=0, out=table[1:, 1:])
    x0, y0, x1, y1 = x0[meets], y0[meets], x1[meets], y1[meets]
    # Inclusion and exclusion over the four corners.
    ends = _integral(table, np.concatenate([x1, x0, x1, x0]), np.concatenate([y1, y1, y0, y0]))
    total = np.zeros(len(corners))
    total[meets] = np.array([1, -1, -1, 1]) @ ends.reshape(4, -1)
    return total


def _integral(table: NDArray[np.int32], x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the sum of a mask over [0, x] × [0, y]: table (H+1, W+1), x and y (N,) -> (N,)."""
    height, width = table.shape[0] - 1, table.shape[1] - 1
    x, y = np.clip(x, 0, width), np.clip(y, 0, height)
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, bottom = np.minimum(left + 1, width), np.minimum(top + 1, height)
    fx, fy = x - left, y - top
    upper = table[top, left] * (1 - fx) + table[top, right] * fx
    lower = table[bottom, left] * (1 - fx) + table[bottom, right] * fx
    return upper * (1 - fy) + lower * fy


def _stack(masks: ArrayLike) -> BoolArray:
    stack = np.asarray(masks)
    if stack.ndim != 3 or (stack.dtype != bool and stack.size):
        raise ValueError(f"expected boolean masks of shape (M, H, W), got {stack.dtype} of shape {stack.shape}")
    return stack.astype(bool, copy=False)


def box_iou(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Return intersection over union of every pair of boxes: (A, 4), (B, 4) -> (A, B)."""
    left, right = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (a, b))
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    area_left, area_right = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (left, right))
    total = area_left[:, None] + area_right[None] - shared
    return np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)


def paint_tokens(values: ArrayLike, boxes: ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return values of visual tokens painted over the image they see: (N,), (N, 4) boxes -> (height, width).

    Where tokens overlap, the one with the smaller box is seen; pixels that no token sees are NaN.
    """
    width, height = size
    canvas = np.full((height, width), np.nan)
    places = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    areas = (places[:, 2] - places[:, 0]) * (places[:, 3] - places[:, 1])
    # Largest first; rounded, so that cells of one grid keep their order.
    for i in np.argsort(-areas.round(3), kind="stable"):
        value, (x0, y0, x1, y1) = np.asarray(values)[i], places[i]
        if np.isfinite(x0):
            canvas[round(y0) : max(round(y1), round(y0) + 1), round(x0) : max(round(x1), round(x0) + 1)] = value
    return canvas
