"""Scenes changed on purpose: masks with errors, another rendering style, blurred and noisy images, unseen pairs."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.images import image_bytes, open_rgb
from fivl_hf.masks import BoolArray, decode_mask, encode_mask, mask_boxes
from fivl_hf.scenes.rendering import COLORS, SHAPES, Scene, scene

__all__ = [
    "HELD_OUT",
    "IMAGE_CHANGES",
    "MASK_ERRORS",
    "asks_unseen",
    "changed",
    "training_rows",
    "untraining_rows",
    "with_mask_errors",
]

Row = dict[str, Any]
# Each colour and each shape is seen in training, but these six never together.
HELD_OUT = frozenset(f"{color} {shape}" for color, shape in zip(COLORS, SHAPES, strict=True))


def _grown(mask: BoolArray, pixels: int) -> BoolArray:
    """Widen the mask by a number of pixels in every direction."""
    side = 2 * pixels + 1
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(side))) > 0


def _shifted(mask: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Return the mask moved by a patch (8 pixels) sideways or up or down; what leaves the image is lost."""
    dx, dy = ((8, 0), (-8, 0), (0, 8), (0, -8))[rng.integers(4)]
    padded = np.pad(mask, 8)
    return padded[8 - dy : 8 - dy + len(mask), 8 - dx : 8 - dx + len(mask)]


def _dilate(masks: list[BoolArray], plan: Scene, rng: np.random.Generator) -> list[BoolArray]:
    return [_grown(mask, 4) for mask in masks]


def _swell_half(masks: list[BoolArray], plan: Scene, rng: np.random.Generator) -> list[BoolArray]:
    """Return each mask, with probability one half, grown by a patch and a half."""
    return [_grown(mask, 12) if rng.random() < 0.5 else mask for mask in masks]


def _shift(masks: list[BoolArray], plan: Scene, rng: np.random.Generator) -> list[BoolArray]:
    return [_shifted(mask, rng) for mask in masks]


def _drop(masks: list[BoolArray], plan: Scene, rng: np.random.Generator) -> list[BoolArray | None]:
    return [mask if rng.random() < 0.5 else None for mask in masks]


def _swap(masks: list[BoolArray], plan: Scene, rng: np.random.Generator) -> list[BoolArray]:
    """Return each mask, with probability one half, is that of another object of the scene."""
    return [_other(mask, plan, rng) if rng.random() < 0.5 else mask for mask in masks]


def _other(mask: BoolArray, plan: Scene, rng: np.random.Generator) -> BoolArray:
    others = [thing.mask() for thing in plan.objects if not np.array_equal(thing.mask(), mask)]
    return others[rng.integers(len(others))]


def _random(masks: list[BoolArray], plan: Scene, rng: np.random.Generator) -> list[BoolArray]:
    """Return the masks at random places, wrapped around the edges."""
    return [np.roll(mask, tuple(rng.integers(0, 5, 2) * 8), axis=(0, 1)) for mask in masks]


MASK_ERRORS: dict[str, Callable[[list[BoolArray], Scene, np.random.Generator], list[Any]]] = {
    "dilate": _dilate,
    "drop": _drop,
    "random": _random,
    "shift": _shift,
    "swap": _swap,
    "swell half": _swell_half,
}


def with_mask_errors(row: Row, kind: str, rng: np.random.Generator) -> Row:
    """Return the row with other masks, and boxes that fit them; a mask that is dropped takes its expression along."""
    masks = MASK_ERRORS[kind]([decode_mask(mask) for mask in row["masks"]], scene(row["id"]), rng)
    kept = [
        (expression | {"boxes": [mask_boxes(mask[None])[0].tolist()]}, {"bytes": encode_mask(mask), "path": None})
        for expression, mask in zip(row["key_expressions"], masks, strict=True)
        if mask is not None and mask.any()
    ]
    return row | {"key_expressions": [k for k, _ in kept], "masks": [m for _, m in kept]}


def training_rows(count: int, seed: int, *, held_out: bool, mask_error: str = "") -> Iterator[Row]:
    """Training rows; with ``held_out`` only scenes without any of the pairs in :data:`HELD_OUT`."""
    rows: Iterable[Row] = scene_rows("train", 10 * count, seed)
    rng = np.random.default_rng(seed)
    kept = (row for row in rows if not held_out or not any(o.name in HELD_OUT for o in scene(row["id"]).objects))
    for row in _first(kept, count):
        yield with_mask_errors(row, mask_error, rng) if mask_error else row


def asks_unseen(row: Row) -> bool:
    """Return whether the first answer names a pair that was held out."""
    return any(pair in row["messages"][1]["content"] for pair in HELD_OUT)


def _other_style(image: Image.Image, plan: Scene, rng: np.random.Generator) -> Image.Image:
    """Return the same scene on a dark background, hatched, each object with a black outline."""
    pixels = np.full((*image.size[::-1], 3), 60, dtype=np.float64)
    pixels[::4] += 25
    for thing in plan.objects:
        mask = thing.mask()
        pixels[mask] = np.array(COLORS[thing.color]) * 0.8
        inner = ~_grown(~mask, 1)
        pixels[mask & ~inner] = 0
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _blur(image: Image.Image, plan: Scene, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.5))


def _noise(image: Image.Image, plan: Scene, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image) + rng.normal(0, 40, (*image.size[::-1], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


IMAGE_CHANGES: dict[str, Callable[[Image.Image, Scene, np.random.Generator], Image.Image]] = {
    "blur": _blur,
    "noise": _noise,
    "style": _other_style,
}


def changed(rows: Iterable[Row], kind: str) -> list[Row]:
    """Return the rows with every image changed; the same rows give the same images."""
    rng = np.random.default_rng(0)
    result = []
    for row in rows:
        image = open_rgb(row["images"][0])
        new = IMAGE_CHANGES[kind](image, scene(row["id"]), rng)
        result.append(row | {"images": [{"bytes": image_bytes(new), "path": None}]})
    return result


def untraining_rows(count: int, seed: int) -> list[Row]:
    """Test rows that ask for a pair held out of training."""
    return list(_first(filter(asks_unseen, scene_rows("test", 40 * count, seed)), count))


def _first(rows: Iterator[Row], count: int) -> Iterator[Row]:
    """So many rows; raises ValueError where there are fewer."""
    missing = count
    for row in islice(rows, count):
        missing -= 1
        yield row
    if missing:
        raise ValueError(f"{missing} of {count} rows are missing: too few scenes are of the kind that was asked for")
