"""Evidence drawn over images without changing their colours: outlines, frames, dimmed surroundings."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from fivl_hf.images import rgb
from fivl_hf.masks import BoolArray

__all__ = [
    "COLOR_NAMES",
    "PALETTE",
    "Color",
    "enlarge",
    "evidence_layer",
    "frame_boxes",
    "ink_on",
    "outline_masks",
    "text_font",
]

Color = tuple[int, int, int]

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
COLOR_NAMES = ("orange", "light blue", "green", "vermilion", "pink", "blue", "yellow")
_DARK, _LIGHT = (16, 18, 24), (255, 255, 255)


def outline_masks(
    image: Image.Image,
    masks: Sequence[ArrayLike],
    boxes: Sequence[Sequence[Sequence[float]]] = (),
    colors: Sequence[Color] = PALETTE,
    side: int = 288,
) -> Image.Image:
    """Return the image with masks outlined and everything outside them dimmed; colours stay as they are.

    Args:
        masks: (H, W) each, of the image's shape.
        boxes: for each mask its boxes in source pixels.
        side: length of the longer edge of the picture that comes back.
    """
    picture = enlarge(rgb(image), side)
    scaled = [np.asarray(each).reshape(-1, 4) * (picture.width / image.width) for each in boxes]
    layer = evidence_layer(picture.size, masks, scaled, colors)
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def evidence_layer(
    size: tuple[int, int],
    masks: Sequence[ArrayLike],
    boxes: Sequence[ArrayLike] = (),
    colors: Sequence[Color] = PALETTE,
) -> Image.Image:
    """Return a transparent picture to lay over an image: outlines of masks, frames of boxes, dark where no mask is.

    Args:
        size: (width, height) of the picture.
        masks: (H, W) bool each, of any size; they are scaled to that size.
        boxes: for each mask its boxes, in pixels of the picture.
    """
    width, height = size
    layer = np.zeros((height, width, 4), dtype=np.uint8)
    shapes = [
        Image.fromarray(np.asarray(mask, dtype=bool)).convert("L").resize(size, Image.Resampling.BILINEAR)
        for mask in masks
    ]
    if shapes:
        layer[~np.any([np.asarray(shape) >= 128 for shape in shapes], axis=0)] = (*_DARK, 120)
    for i, shape in enumerate(shapes):
        # From outside in: dark, the mask's colour, light. One of them stands out on any ground.
        inside = np.asarray(shape) >= 128
        # Outside the picture is outside the mask: one that reaches the edge is outlined there, too.
        outside = ~np.pad(inside, 4)
        inner, core = (~_grown(outside, by)[4:-4, 4:-4] for by in (3, 4))
        outer = _grown(inside, 2)
        layer[outer & ~inside] = (*_DARK, 255)
        layer[inside & ~inner] = (*colors[i % len(colors)], 255)
        layer[inner & ~core] = (*_LIGHT, 255)
    picture = Image.fromarray(layer)
    for i, each in enumerate(boxes):
        _frame(picture, each, colors[i % len(colors)])
    return picture


def _grown(mask: BoolArray, by: int) -> BoolArray:
    """Return a mask (H, W) grown by ``by`` pixels along rows, columns and diagonals."""
    grown = mask
    for axis in range(2):
        before = np.moveaxis(grown, axis, 0)
        after = before.copy()
        for step in range(1, by + 1):
            after[step:] |= before[:-step]
            after[:-step] |= before[step:]
        grown = np.moveaxis(after, 0, axis)
    return grown


def ink_on(color: Color) -> Color:
    """Dark or light, whichever has the higher contrast on a colour (WCAG's relative luminance)."""
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _DARK if luminance > 0.18 else _LIGHT


def text_font(size: int) -> ImageFont.FreeTypeFont:
    """Return a font with more letters than Pillow's own, which every Matplotlib brings along."""
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def frame_boxes(
    image: Image.Image, boxes: Sequence[Sequence[float]], color: Color = PALETTE[3], side: int = 288
) -> Image.Image:
    """Return the image with boxes, in source pixels, framed."""
    picture = enlarge(rgb(image), side)
    scaled = np.asarray(boxes, dtype=float).reshape(-1, 4) * (picture.width / image.width)
    _frame(picture, scaled, color, width=max(3, side // 48))
    return picture


def _frame(picture: Image.Image, boxes: ArrayLike, color: Color, width: int = 3) -> None:
    draw = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=float).reshape(-1, 4):
        for inset, thickness, line in ((-2, 2, _DARK), (0, width, color), (width, 1, _LIGHT)):
            left, top = max(x0 + inset, 0), max(y0 + inset, 0)
            right = min(x1 - 1 - inset, picture.width - 1)
            bottom = min(y1 - 1 - inset, picture.height - 1)
            if left <= right and top <= bottom:
                draw.rectangle((left, top, right, bottom), outline=line, width=thickness)


def enlarge(image: Image.Image, side: int) -> Image.Image:
    """Return the image scaled so that its longer edge is ``side``; small pictures keep their crisp pixels."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
