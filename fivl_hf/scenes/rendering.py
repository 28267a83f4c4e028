"""Rendered scenes of coloured shapes with exact masks, and questions that need binding.

Every scene is a pure function of its id, so any number can be made, in any process.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from PIL import Image

from fivl_hf.images import image_bytes
from fivl_hf.masks import BoolArray

__all__ = ["COLORS", "IMAGE_SIZE", "SHAPES", "SPLITS", "Scene", "SceneObject", "scene"]

IMAGE_SIZE = 40
# No black: that is what evidence is blacked out with.
COLORS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 98, 200),
    "yellow": (238, 200, 30),
    "purple": (148, 60, 189),
    "pink": (240, 130, 180),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
TURNS = 2
SPLITS = ("train", "validation", "test")
_RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
_MARGIN = 5  # pixels between two centres before one counts as left of or above the other
# Centres lie on a grid of 8 pixels, so that a quarter of a shape looks alike wherever it stands: with free places the
# small model needs many times the steps to tell shapes apart (benchmarks/LOG.md).
_GRID = 8
_MIN_RADIUS, _MAX_RADIUS = 7, 8


@dataclass(frozen=True)
class SceneObject:
    """A shape with its centre and radius in pixels."""

    color: str
    shape: str
    center: tuple[int, int]
    radius: int

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"

    def mask(self) -> BoolArray:
        """(IMAGE_SIZE, IMAGE_SIZE) bool, exact."""
        axis = np.arange(IMAGE_SIZE) + 0.5
        dx, dy = axis[None, :] - self.center[0], axis[:, None] - self.center[1]
        r, ax, ay = self.radius, np.abs(dx), np.abs(dy)
        distance = np.hypot(dx, dy)
        if self.shape == "circle":
            return distance <= r
        if self.shape == "square":
            return np.maximum(ax, ay) <= r * 0.85
        if self.shape == "triangle":
            return (dy <= r * 0.8) & (ax <= (dy + r) * 0.58)
        if self.shape == "cross":
            return (np.maximum(ax, ay) <= r) & (np.minimum(ax, ay) <= r * 0.3)
        if self.shape == "ring":
            return (distance <= r) & (distance >= r * 0.55)
        return ax + ay <= r


@dataclass(frozen=True)
class Scene:
    """Two or three objects of different colours and shapes, and questions about them."""

    id: str
    objects: tuple[SceneObject, ...]
    turns: tuple[tuple[str, str], ...]
    background: tuple[int, int, int]

    def image(self) -> bytes:
        """Return the rendered scene as PNG."""
        pixels = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        pixels[:] = self.background
        for thing in self.objects:
            pixels[thing.mask()] = COLORS[thing.color]
        return image_bytes(Image.fromarray(pixels))

    def find(self, expression: str) -> list[BoolArray]:
        """Return the masks of the objects that have every word of an expression, such as "red circle"."""
        words = set(expression.split())
        return [thing.mask() for thing in self.objects if words and words <= set(thing.name.split())]


@lru_cache(maxsize=64)
def scene(scene_id: str) -> Scene:
    """Return the scene of an id ``scene-<seed>-<split>-<number>``."""
    _, seed, split, number = scene_id.split("-")
    rng = np.random.default_rng([int(seed), SPLITS.index(split), int(number)])
    count = int(rng.integers(2, 4))
    colors = rng.permutation(list(COLORS))[:count]
    shapes = rng.permutation(SHAPES)[:count]
    radii = rng.integers(_MIN_RADIUS, _MAX_RADIUS + 1, size=count)
    centers = _centers(rng, count)
    objects = tuple(
        SceneObject(str(color), str(shape), center, int(radius))
        for color, shape, center, radius in zip(colors, shapes, centers, radii, strict=True)
    )
    grey = int(rng.integers(215, 250))
    background = (grey, grey, int(np.clip(grey + rng.integers(-6, 6), 0, 255)))
    return Scene(scene_id, objects, _turns(rng, objects), background)


def _centers(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """Return places on the grid at which objects neither touch nor leave the image."""
    places = [(int(x), int(y)) for x in range(_GRID, IMAGE_SIZE, _GRID) for y in range(_GRID, IMAGE_SIZE, _GRID)]
    while True:
        centers = [places[i] for i in rng.choice(len(places), size=count, replace=False)]
        gaps = [max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in combinations(centers, 2)]
        if min(gaps) >= 2 * _MAX_RADIUS:
            return centers


def _turns(rng: np.random.Generator, objects: tuple[SceneObject, ...]) -> tuple[tuple[str, str], ...]:
    """Draw distinct questions in random order: the colour of a shape, the shape of a colour, what is left of what."""
    color_turns = [(f"What color is the {o.shape}?", f"It is a {o.name}.") for o in objects]
    shape_turns = [(f"What shape is {o.color}?", f"It is a {o.name}.") for o in objects]
    relation_turns = _relation_turns(objects)
    kinds = [turns for turns in (color_turns, shape_turns, relation_turns) if turns]
    chosen: list[tuple[str, str]] = []
    while len(chosen) < TURNS:
        turns = kinds[int(rng.integers(len(kinds)))]
        turn = turns[int(rng.integers(len(turns)))]
        if turn not in chosen:
            chosen.append(turn)
    return tuple(chosen)


def _relation_turns(objects: tuple[SceneObject, ...]) -> list[tuple[str, str]]:
    """Relations that exactly one other object satisfies, beyond doubt."""
    turns = []
    for anchor in objects:
        for relation, (axis, sign) in _RELATIONS.items():
            distances = [sign * (o.center[axis] - anchor.center[axis]) for o in objects if o is not anchor]
            others = [o for o in objects if o is not anchor]
            there = [o for o, d in zip(others, distances, strict=True) if d > _MARGIN]
            if len(there) == 1 and all(d > _MARGIN or d < 0 for d in distances):
                turns.append((f"What is {relation} the {anchor.name}?", f"There is a {there[0].name}."))
    return turns
