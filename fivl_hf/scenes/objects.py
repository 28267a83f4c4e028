"""Objects of free scenes: where they lie, which of their pixels show, and how they are painted.

Pixels are (S, S) with S = SIDE; places, sizes and angles are free, so a patch may see any part of an object.
"""

import colorsys
from dataclasses import dataclass, replace
from itertools import combinations
from math import dist

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from fivl_hf.masks import BoolArray
from fivl_hf.scenes.photographs import CUT_OUTS, cut_out
from fivl_hf.scenes.styles import COLORS, HELD_OUT, SHAPES, SIDE, SceneStyle

__all__ = ["FreeObject", "draw_objects", "paint"]

_MOST = 4  # objects
_SHOWN = 0.6  # of an object that others cover
_GRID = 8
_AXIS = np.arange(SIDE) + 0.5
_Y, _X = np.meshgrid(_AXIS, _AXIS, indexing="ij")
_Place = tuple[float, float, float]  # centre x, y and radius
_TEXTURES = ("plain", "stripes", "dots", "noise")


@dataclass(frozen=True, eq=False)
class FreeObject:
    """An object with its centre (x, y), radius and turn, and the pixels of it that nothing covers."""

    noun: str
    color: str | None
    rgb: tuple[float, float, float]
    texture: str
    center: tuple[float, float]
    radius: float
    degrees: float
    visible: BoolArray

    @property
    def name(self) -> str:
        return f"{self.color} {self.noun}" if self.color else self.noun

    def mask(self) -> BoolArray:
        """(S, S) bool, exact: the pixels that show."""
        return self.visible


def draw_objects(rng: np.random.Generator, style: SceneStyle, *, training: bool) -> tuple[FreeObject, ...]:
    """Draw two to four objects, the later ones in front of the earlier.

    Args:
        training: leave out the pairs of colour and shape that are held out of training.
    """
    count = int(rng.integers(2, _MOST + 1))
    while True:
        places = [_place(rng, style) for _ in range(count)]
        if _apart(places, style.spacing) and (
            seen := _occluded([_object(rng, place, style, training) for place in places])
        ):
            return seen


def _place(rng: np.random.Generator, style: SceneStyle) -> _Place:
    if style.grid:
        x, y = rng.integers(1, SIDE // _GRID, 2) * _GRID
        return float(x), float(y), float(rng.uniform(7, 8))
    radius = float(rng.uniform(6, 10.5))
    x, y = rng.uniform(radius, SIDE - radius, 2)
    return float(x), float(y), radius


def _object(rng: np.random.Generator, place: _Place, style: SceneStyle, training: bool) -> FreeObject:
    noun, color = _name(rng, style, training)
    *center, radius = place
    degrees = 0.0 if style.grid else float(rng.uniform(0, 360))
    texture = _TEXTURES[rng.integers(len(_TEXTURES))]
    mask = (_cut_out_mask if color is None else _shape)(noun, (center[0], center[1]), radius, degrees)
    return FreeObject(noun, color, _shade(rng, color), texture, (center[0], center[1]), radius, degrees, mask)


def _name(rng: np.random.Generator, style: SceneStyle, training: bool) -> tuple[str, str | None]:
    if style.photographs:
        return CUT_OUTS[rng.integers(len(CUT_OUTS))], None
    habits = style.habits
    while True:
        noun = SHAPES[rng.integers(len(SHAPES))]
        habitual = noun in habits and rng.random() < style.habit
        color = habits[noun] if habitual else list(COLORS)[rng.integers(len(COLORS))]
        if not training or f"{color} {noun}" not in HELD_OUT:
            return noun, color


def _shade(rng: np.random.Generator, color: str | None) -> tuple[float, float, float]:
    """Draw one of the shades that a colour's word names, 0 to 255."""
    if color is None:
        return (0.0, 0.0, 0.0)
    hue, width = COLORS[color]
    h = (hue + rng.uniform(-width, width)) % 360 / 360
    r, g, b = colorsys.hsv_to_rgb(h, rng.uniform(0.65, 1), rng.uniform(0.6, 1))
    return (255 * r, 255 * g, 255 * b)


def _apart(places: list[_Place], spacing: float) -> bool:
    return all(dist(a[:2], b[:2]) >= spacing * (a[2] + b[2]) for a, b in combinations(places, 2))


def _occluded(objects: list[FreeObject]) -> tuple[FreeObject, ...] | None:
    """Return the objects with what shows of them; None if too little of one does."""
    covered = np.zeros((SIDE, SIDE), dtype=bool)
    seen = []
    for thing in reversed(objects):
        visible = thing.visible & ~covered
        if visible.sum() < _SHOWN * thing.visible.sum():
            return None
        covered |= thing.visible
        seen.append(replace(thing, visible=visible))
    return tuple(reversed(seen))


def _turned(center: tuple[float, float], degrees: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return every pixel's place relative to the centre, in the object's own axes."""
    angle = np.deg2rad(degrees)
    dx, dy = _X - center[0], _Y - center[1]
    return dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)


def _shape(noun: str, center: tuple[float, float], r: float, degrees: float) -> BoolArray:
    x, y = _turned(center, degrees)
    ax, ay = np.abs(x), np.abs(y)
    if noun == "square":
        return np.maximum(ax, ay) <= r * 0.8
    if noun == "triangle":
        return (y <= r * 0.55) & (ax <= (y + r) * 0.6)
    if noun == "cross":
        return (np.maximum(ax, ay) <= r) & (np.minimum(ax, ay) <= r * 0.28)
    if noun == "bar":
        return (ax <= r) & (ay <= r * 0.36)
    distance = np.hypot(x, y)
    return (distance <= r) & (distance >= r * 0.55) if noun == "ring" else distance <= r * 0.95


def _cut_out_box(center: tuple[float, float], radius: float) -> tuple[int, int, int]:
    """Return left, top and side in pixels, inside the image."""
    side = round(2.4 * radius)
    left, top = (int(np.clip(round(v - side / 2), 0, SIDE - side)) for v in center)
    return left, top, side


def _tilt(degrees: float) -> float:
    """Return a lean of -30° to 30°, so that photographs stay upright."""
    return degrees / 6 - 30


def _cut_out_mask(noun: str, center: tuple[float, float], radius: float, degrees: float) -> BoolArray:
    left, top, side = _cut_out_box(center, radius)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top : top + side, left : left + side] = cut_out(noun, side, _tilt(degrees))[..., 3] >= 128
    return mask


def paint(pixels: NDArray[np.float32], thing: FreeObject, light: tuple[float, float], style: SceneStyle) -> None:
    """Paint an object's visible pixels.

    Args:
        pixels: (S, S, 3), 0 to 255, changed in place.
        light: direction of the light (x, y); the shading grows along it.
    """
    seen = thing.visible
    if thing.color is None:
        left, top, side = _cut_out_box(thing.center, thing.radius)
        part = seen[top : top + side, left : left + side]
        pixels[top : top + side, left : left + side][part] = cut_out(thing.noun, side, _tilt(thing.degrees))[part, :3]
        return
    x, y = _turned(thing.center, thing.degrees)
    shade = _texture(thing.texture, x[seen], y[seen])
    if style.shaded:
        along = (_X[seen] - thing.center[0]) * light[0] + (_Y[seen] - thing.center[1]) * light[1]
        shade = shade * (1 + 0.25 * along / thing.radius)
    pixels[seen] = np.array(thing.rgb, dtype=np.float32) * shade[:, None].astype(np.float32)
    if style.outlined:
        pixels[seen & ~binary_erosion(seen, border_value=1)] = 0


def _texture(kind: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the brightness of each pixel, about 1, in a pattern that turns with the object."""
    if kind == "stripes":
        return np.where(np.floor(x / 2) % 2 == 0, 1.0, 0.72)
    if kind == "dots":
        return np.where((np.floor(x / 2) % 2 == 0) & (np.floor(y / 2) % 2 == 0), 0.65, 1.0)
    if kind == "noise":
        # The same grain for the same place, without another random generator.
        return 0.85 + 0.15 * np.sin(12.9898 * np.floor(x) + 78.233 * np.floor(y))
    return np.ones_like(x)
