"""Evidence drawn over pictures: masks, boxes, colours that everyone can tell apart."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from fivl_hf.images import rgb

__all__ = ["PALETTE", "draw_boxes", "enlarge", "overlay_mask", "tint_masks"]

# Okabe and Ito's colours, told apart with any colour vision.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (240, 228, 66),
)


def overlay_mask(
    image: Image.Image, mask: ArrayLike, color: tuple[int, int, int] = PALETTE[1], side: int = 288
) -> Image.Image:
    """The image with everything outside the mask dimmed and the mask tinted."""
    pixels = np.asarray(rgb(image), dtype=np.float64)
    inside = np.asarray(mask, dtype=bool)[..., None]
    mixed = np.where(inside, 0.55 * pixels + 0.45 * np.array(color), 0.35 * pixels)
    return enlarge(Image.fromarray(mixed.astype(np.uint8)), side)


def tint_masks(image: Image.Image, masks: Sequence[ArrayLike], side: int = 288) -> Image.Image:
    """The image with every mask tinted and outlined in its palette colour."""
    picture = enlarge(rgb(image), side)
    pixels = np.asarray(picture, dtype=np.float64)
    for i, mask in enumerate(masks):
        color = np.array(PALETTE[i % len(PALETTE)])
        inside = np.asarray(
            Image.fromarray(np.asarray(mask, dtype=bool)).resize(picture.size, Image.Resampling.NEAREST)
        )
        padded = np.pad(inside, 3)
        core = np.logical_and.reduce([np.roll(padded, (dy, dx), (0, 1)) for dy in (-3, 0, 3) for dx in (-3, 0, 3)])
        edge = inside & ~core[3:-3, 3:-3]
        pixels = np.where(inside[..., None], 0.75 * pixels + 0.25 * color, pixels)
        pixels = np.where(edge[..., None], color, pixels)
    return Image.fromarray(pixels.astype(np.uint8))


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Sequence[float]],
    color: tuple[int, int, int] = PALETTE[3],
    side: int = 288,
) -> Image.Image:
    """The image with box outlines."""
    picture = enlarge(rgb(image), side)
    scale = picture.width / image.width, picture.height / image.height
    draw = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in boxes:
        left, top = x0 * scale[0], y0 * scale[1]
        corners = (left, top, max(left, x1 * scale[0] - 1), max(top, y1 * scale[1] - 1))
        draw.rectangle(corners, outline=color, width=3)
    return picture


def enlarge(image: Image.Image, side: int) -> Image.Image:
    """The image scaled so that its longer edge is ``side``; small pictures keep their crisp pixels."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
