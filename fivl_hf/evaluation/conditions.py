"""The conditions under which a question is asked: what its image becomes, as a pure function of boxes and a seed."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageFilter

from fivl_hf.evaluation.perturb import RandomBoxes, random_boxes
from fivl_hf.images import rgb
from fivl_hf.masks import BoolArray, FloatArray, rasterize_boxes

__all__ = [
    "CONDITIONS",
    "FILLS",
    "apply",
    "dilated_boxes",
    "fill_of",
    "hidden_region",
    "kind_of",
    "needs_evidence",
    "require_conditions",
    "with_fill",
]

# Of the image's longer side: what is blurred cannot be recognised any more.
_BLUR = 1 / 12
_GREY = (127, 127, 127)
# Pixels around a hidden one from which OpenCV paints over it.
_INPAINT_RADIUS = 3
_Fill = Callable[[Image.Image, BoolArray], Image.Image]


def _black(image: Image.Image, _: BoolArray) -> Image.Image:
    return Image.new("RGB", image.size)


def _mean(image: Image.Image, region: BoolArray) -> Image.Image:
    """Return the mean colour of what stays, so that it says nothing of what is hidden."""
    pixels = np.asarray(image)
    rest = pixels[~region] if not region.all() else pixels.reshape(-1, 3)
    return Image.new("RGB", image.size, tuple(int(value) for value in rest.mean(axis=0).round()))


def _blurred(image: Image.Image, _: BoolArray) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) * _BLUR))


def _inpainted(image: Image.Image, region: BoolArray) -> Image.Image:
    """Return the image with the region painted over from its surroundings (Telea's method, by OpenCV)."""
    try:
        import cv2
    except ImportError as error:
        raise ValueError(
            "painting over evidence needs OpenCV: pip install opencv-python-headless, or take another fill"
        ) from error

    mask = region.astype(np.uint8)
    return Image.fromarray(cv2.inpaint(np.asarray(image), mask, _INPAINT_RADIUS, cv2.INPAINT_TELEA))


_FILLS: dict[str, _Fill] = {"black": _black, "mean": _mean, "blur": _blurred, "inpaint": _inpainted}
FILLS = tuple(_FILLS)
# What hides a part of the image; black, unless a fill is named: "removed-blur".
_HIDING = ("removed", "random", "other", "kept")
CONDITIONS = (
    "original",
    *(kind if fill == "black" else f"{kind}-{fill}" for kind in _HIDING for fill in FILLS),
    "blank",
    "text-only",
)


def require_conditions(names: Sequence[str]) -> list[str]:
    """Return the names of conditions without repetition, the original images first.

    Raises:
        ValueError: a name that is none.
    """
    if unknown := [name for name in names if name not in CONDITIONS]:
        raise ValueError(f"there is no condition {unknown[0]!r}; there are {', '.join(CONDITIONS)}")
    return sorted(set(names) | {"original"}, key=CONDITIONS.index)


def needs_evidence(name: str) -> bool:
    """Return whether a condition is only about questions with evidence."""
    return name not in ("original", "blank", "text-only")


def with_fill(kind: str, fill: str) -> str:
    """Return the condition that hides what ``kind`` ("removed", "random", "other", "kept") does, by a fill.

    Raises:
        ValueError: an unknown fill.
    """
    _require_fill(fill)
    return kind if fill == "black" else f"{kind}-{fill}"


def _require_fill(fill: str) -> None:
    if fill not in FILLS:
        raise ValueError(f"fill must be one of {', '.join(FILLS)}, got {fill!r}")


def kind_of(name: str) -> str:
    """Return a condition without its fill: "removed" of "removed-blur"."""
    return next((kind for kind in _HIDING if name == kind or name.startswith(f"{kind}-")), name)


def fill_of(name: str) -> str:
    """Return the fill of a condition that hides something: "blur" of "removed-blur", "black" of "removed"."""
    return name.removeprefix(kind_of(name)).removeprefix("-") or "black"


def apply(
    name: str,
    image: Image.Image,
    boxes: ArrayLike,
    seed: int | Sequence[int] = 0,
    *,
    fill: str | None = None,
    mask: BoolArray | None = None,
    other: ArrayLike = (),
    dilation: float = 0.0,
) -> Image.Image | None:
    """Return an image as it is shown under a condition; None for "text-only".

    ``removed`` and ``kept`` divide the image between them to the pixel: what one hides, the other shows.

    Args:
        name: one of ``CONDITIONS``.
        boxes: (N, 4) of the evidence, as (x0, y0, x1, y1) in pixels of the image.
        seed: of the condition "random".
        fill: of what is hidden: "black", "mean" (colour of the rest), "blur" or "inpaint" (painted over from its
            surroundings, by OpenCV); black, or the condition's own, if not given.
        mask: (H, W) the evidence, in place of the boxes; "random" moves each box's part of it, "other" hides boxes.
        other: (M, 4) boxes of other questions' evidence in this image, for the condition "other".
        dilation: pixels by which the evidence grows on each side.

    Raises:
        ValueError: an unknown condition or fill, or one that needs OpenCV where it is not installed.
    """
    require_conditions([name])
    shown = rgb(image)
    if name == "original":
        return shown
    if name == "text-only":
        return None
    if name == "blank":
        return Image.new("RGB", shown.size, _GREY)
    kind = kind_of(name)
    chosen = fill or fill_of(name)
    _require_fill(chosen)
    region = hidden_region(kind, shown.size, boxes, seed, mask=mask, other=other, dilation=dilation)
    return Image.composite(_FILLS[chosen](shown, region), shown, Image.fromarray(region).convert("L"))


def hidden_region(
    kind: str,
    size: tuple[int, int],
    boxes: ArrayLike,
    seed: int | Sequence[int] = 0,
    *,
    mask: BoolArray | None = None,
    other: ArrayLike = (),
    dilation: float = 0.0,
) -> BoolArray:
    """Return the pixels (H, W) that "removed", "random", "other" or "kept" hides; arguments as for :func:`apply`."""
    if kind == "other":
        return rasterize_boxes(dilated_boxes(other, size, dilation), size)
    grown = dilated_boxes(boxes, size, dilation)
    evidence = None if mask is None else _dilated_mask(mask, round(dilation))
    if kind == "random":
        placed = random_boxes(grown.tolist(), size, seed)
        return rasterize_boxes(placed.boxes, size) if evidence is None else _moved(evidence, placed)
    region = rasterize_boxes(grown, size) if evidence is None else evidence
    return ~region if kind == "kept" else region


def dilated_boxes(boxes: ArrayLike, size: tuple[int, int], dilation: float) -> FloatArray:
    """Return boxes (N, 4) grown by some pixels on each side, within an image of (width, height)."""
    width, height = size
    grown = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) + np.array([-dilation, -dilation, dilation, dilation])
    return np.asarray(grown.clip(0, [width, height, width, height]))


def _moved(mask: BoolArray, placed: RandomBoxes) -> BoolArray:
    """Return a mask (H, W) whose part in each box is where that box was placed."""
    moved, size = np.zeros_like(mask), mask.shape[::-1]
    for before, after in zip(placed.sources, placed.boxes, strict=True):
        part = rasterize_boxes(before[None], size) & mask
        # Boxes move by whole pixels.
        columns, rows = np.rint(after[:2] - before[:2]).astype(int)
        y, x = np.nonzero(part)
        moved[y + rows, x + columns] = True
    return moved


def _dilated_mask(mask: BoolArray, pixels: int) -> BoolArray:
    """Return a mask (H, W) grown by some pixels on each side, diagonals included, as a box grows."""
    for axis in (0, 1):
        # How many set pixels lie before each place, with `pixels` empty places at both ends.
        around = [(pixels, pixels) if i == axis else (0, 0) for i in (0, 1)]
        before = np.pad(mask, around).cumsum(axis, dtype=np.int32)
        before = np.insert(before, 0, 0, axis)
        places = np.arange(mask.shape[axis])
        mask = before.take(places + 2 * pixels + 1, axis) > before.take(places, axis)
    return mask
