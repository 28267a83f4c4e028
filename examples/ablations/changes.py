"""Scenes changed on purpose: masks with errors, images blurred, noisy and occluded, questions about unseen pairs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.images import image_bytes, open_rgb
from fivl_hf.masks import BoolArray, decode_mask, encode_mask, mask_boxes
from fivl_hf.scenes.catalog import find_scene
from fivl_hf.scenes.styles import HABITS, HELD_OUT

__all__ = ["IMAGE_CHANGES", "MASK_ERRORS", "changed", "names_seen", "names_unseen", "training_rows", "with_mask_errors"]

Row = dict[str, Any]
Boxes = Sequence[Sequence[float]]  # (N, 4) xyxy pixels, one of each object


def _grown(mask: BoolArray, pixels: int) -> BoolArray:
    """Widen the mask by a number of pixels in every direction."""
    side = 2 * pixels + 1
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(side))) > 0


def _swell_half(mask: BoolArray, boxes: Boxes, others: Sequence[BoolArray], rng: np.random.Generator) -> BoolArray:
    """Return the mask, with probability one half, grown by a patch and a half."""
    return _grown(mask, 12) if rng.random() < 0.5 else mask


def _filled(mask: BoolArray, boxes: Boxes, others: Sequence[BoolArray], rng: np.random.Generator) -> BoolArray:
    """Return the whole boxes of the mask's objects."""
    return _painted(mask.shape, boxes)


def _jittered(mask: BoolArray, boxes: Boxes, others: Sequence[BoolArray], rng: np.random.Generator) -> BoolArray:
    """Return the boxes with every edge moved by up to a quarter of their size, filled."""
    moved = np.array(boxes, dtype=float)
    sizes = np.tile(moved[:, 2:] - moved[:, :2], 2)
    return _painted(mask.shape, (moved + rng.uniform(-0.25, 0.25, sizes.shape) * sizes).tolist())


def _painted(shape: tuple[int, ...], boxes: Boxes) -> BoolArray:
    painted = np.zeros(shape, dtype=bool)
    for box in boxes:
        x0, y0, x1, y1 = (max(0, round(float(value))) for value in box)
        painted[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
    return painted


def _missed(mask: BoolArray, boxes: Boxes, others: Sequence[BoolArray], rng: np.random.Generator) -> None:
    """Return nothing, as a detector that finds nothing does; the expression goes with the mask."""


def _wrong(mask: BoolArray, boxes: Boxes, others: Sequence[BoolArray], rng: np.random.Generator) -> BoolArray:
    """Return the mask of another object of the scene."""
    return others[int(rng.integers(len(others)))] if others else mask


def _random(mask: BoolArray, boxes: Boxes, others: Sequence[BoolArray], rng: np.random.Generator) -> BoolArray:
    """Return the mask at a random place, wrapped around the edges."""
    return np.roll(mask, tuple(rng.integers(0, len(mask), 2)), axis=(0, 1))


MASK_ERRORS: dict[str, Callable[[BoolArray, Boxes, Sequence[BoolArray], np.random.Generator], BoolArray | None]] = {
    "filled": _filled,
    "jittered": _jittered,
    "missed": _missed,
    "random": _random,
    "swell half": _swell_half,
    "wrong": _wrong,
}


def with_mask_errors(row: Row, kind: str, rate: float, rng: np.random.Generator) -> Row:
    """Return the row with the given share of its masks replaced, and boxes that fit them."""
    objects = [thing.mask() for thing in find_scene(row["id"]).objects]
    kept = []
    for expression, stored in zip(row["key_expressions"], row["masks"], strict=True):
        mask: BoolArray | None = decode_mask(stored)
        if rng.random() < rate:
            assert mask is not None
            others = [other for other in objects if not (other & mask).any()]
            mask = MASK_ERRORS[kind](mask, expression["boxes"], others, rng)
        if mask is not None and mask.any():
            boxes = [mask_boxes(mask[None])[0].tolist()]
            kept.append((expression | {"boxes": boxes}, {"bytes": encode_mask(mask), "path": None}))
    return row | {"key_expressions": [e for e, _ in kept], "masks": [m for _, m in kept]}


def training_rows(styles: Sequence[str], count: int, seed: int) -> Iterator[Row]:
    """Yield training rows, the styles in turn."""
    sources = [scene_rows("train", count * 2, seed, style=style) for style in styles]
    for number in range(count):
        yield next(sources[number % len(sources)])


def names_unseen(text: str) -> bool:
    """Return whether a question or an answer names a pair of colour and shape that is held out of training."""
    return any(pair in text for pair in HELD_OUT)


def names_seen(row: Row) -> bool:
    """Return whether a row names only pairs of training, and its answer no usual one, which language could guess."""
    usual = any(f"{color} {noun}" in row["answers"][0] for noun, color in HABITS.items())
    return not usual and not names_unseen(f"{row['question']} {row['answers'][0]}")


def _blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.0))


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image) + rng.normal(0, 30, (*image.size[::-1], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _occluded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the image with three grey squares, an eighth of it in all, wherever they fall."""
    side = round((image.width * image.height / 24) ** 0.5)
    covered = image.copy()
    draw = ImageDraw.Draw(covered)
    for _ in range(3):
        x, y = (int(rng.integers(0, size - side)) for size in image.size)
        draw.rectangle((x, y, x + side - 1, y + side - 1), fill=(127, 127, 127))
    return covered


IMAGE_CHANGES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "blur": _blurred,
    "noise": _noisy,
    "occlusion": _occluded,
}


def changed(rows: Iterable[Row], kind: str) -> list[Row]:
    """Return the rows with every image changed; the same rows give the same images."""
    rng = np.random.default_rng(0)
    result = []
    for row in rows:
        image = IMAGE_CHANGES[kind](open_rgb(row["images"][0]), rng)
        result.append(row | {"images": [{"bytes": image_bytes(image), "path": None}]})
    return result
