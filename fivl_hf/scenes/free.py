"""Free scenes, the second edition: places, sizes and turns as they come, occlusion, textures, light and photographs.

Every scene is a pure function of its id, so any number can be made, in any process.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fivl_hf.images import image_bytes
from fivl_hf.masks import BoolArray
from fivl_hf.scenes.objects import FreeObject, draw_objects, paint
from fivl_hf.scenes.photographs import BACKGROUNDS, TILE, backgrounds
from fivl_hf.scenes.questions import QUESTION_KINDS, ask, plural
from fivl_hf.scenes.rendering import SPLITS
from fivl_hf.scenes.styles import SIDE, STYLES, SceneStyle

__all__ = ["FreeScene", "free_scene"]

TURNS = 3
_RARE = ("between", "size")
# Grounds that show none of the objects that are cut out of photographs.
_NEUTRAL = tuple(BACKGROUNDS.index(name) for name in ("brick", "grass", "gravel", "hubble_deep_field"))


@dataclass(frozen=True, eq=False)
class FreeScene:
    """Two to four objects, some partly hidden, and questions about them.

    Attributes:
        turns: question and answer.
        kinds: of each turn, a name of :data:`fivl_hf.scenes.questions.QUESTION_KINDS` or "caption".
        training: whether questions avoid the pairs of colour and shape that are held out of training.
        seeds: of what is random in the rendering.
    """

    id: str
    style: SceneStyle
    objects: tuple[FreeObject, ...]
    turns: tuple[tuple[str, str], ...]
    kinds: tuple[str, ...]
    training: bool
    seeds: tuple[int, ...]

    def pixels(self) -> NDArray[np.uint8]:
        """Render the scene, (SIDE, SIDE, 3)."""
        rng = np.random.default_rng(self.seeds)
        pixels = _background(rng, self.style)
        angle = rng.uniform(0, 2 * np.pi)
        light = (float(np.cos(angle)), float(np.sin(angle)))
        for thing in self.objects:
            paint(pixels, thing, light, self.style)
        pixels += rng.normal(0, rng.uniform(0, 5), pixels.shape[:2]).astype(np.float32)[..., None]
        return pixels.clip(0, 255).astype(np.uint8)

    def image(self) -> bytes:
        """Return the rendered scene as PNG."""
        return image_bytes(Image.fromarray(self.pixels()), compress_level=1)

    def question(self, kind: str) -> tuple[str, str] | None:
        """Return the scene's question of a kind and its answer, always the same; None if it has none."""
        return ask(kind, self.objects, np.random.default_rng((*self.seeds, 2)), training=self.training)

    def find(self, expression: str) -> list[BoolArray]:
        """Return the masks of the objects that have every word of an expression, such as "two red rings"."""
        return [thing.mask() for thing in self.objects if _names(expression, thing)]


def _names(expression: str, thing: FreeObject) -> bool:
    asked = set(expression.split()) - _COUNTING
    return bool(asked) and asked <= {*thing.name.split(), plural(thing.noun)}


_COUNTING = {"one", "two", "three", "four"}


@lru_cache(maxsize=64)
def free_scene(scene_id: str) -> FreeScene:
    """Return the scene of an id ``<style>-<seed>-<split>-<number>``.

    Raises:
        ValueError: not such an id.
    """
    name, seed, split, number = scene_id.split("-")
    if name not in STYLES:
        raise ValueError(f"{name!r} is not a style of scenes: one of {', '.join(STYLES)}")
    style = STYLES[name]
    seeds = (int(seed), SPLITS.index(split), int(number), list(STYLES).index(name))
    rng = np.random.default_rng(seeds)
    training = split == "train" and name != "even"
    objects = draw_objects(rng, style, training=training)
    kinds = _drawn_kinds(rng)
    asked: dict[tuple[str, str], str] = {}
    for kind in kinds:
        question = ask(kind, objects, rng, training=training)
        if question and len(asked) < TURNS:
            asked.setdefault(question, kind)
    return FreeScene(scene_id, style, objects, tuple(asked), tuple(asked.values()), training, (*seeds, 1))


def _drawn_kinds(rng: np.random.Generator) -> list[str]:
    """Return all kinds in random order, those that few scenes have first.

    Counting, presence and captions fit every scene, so that there are always enough.
    """
    kinds = [*QUESTION_KINDS, "caption"]
    drawn = [kinds[i] for i in rng.permutation(len(kinds))]
    return sorted(drawn, key=lambda kind: kind not in _RARE)


def _background(rng: np.random.Generator, style: SceneStyle) -> NDArray[np.float32]:
    """Return a ground: a photograph, a grey that runs from dark to light, or a dark hatched one."""
    if style.outlined:
        pixels = np.full((SIDE, SIDE, 3), 55, dtype=np.float32)
        pixels[:: int(rng.integers(3, 6))] += 25
        return pixels
    if rng.random() < 0.5:
        number = _NEUTRAL[rng.integers(len(_NEUTRAL))] if style.photographs else rng.integers(len(BACKGROUNDS))
        top, left = rng.integers(0, TILE - SIDE + 1, 2)
        part = backgrounds()[number, top : top + SIDE, left : left + SIDE].astype(np.float32)
        contrast = np.float32(rng.uniform(0.4, 0.9))
        return part * contrast + (1 - contrast) * np.float32(rng.uniform(60, 200))
    low, high = sorted(rng.uniform(70, 250, 2))
    ramp = np.linspace(low, high, SIDE, dtype=np.float32)
    ground = np.broadcast_to(ramp[:, None] if rng.random() < 0.5 else ramp[None, :], (SIDE, SIDE))
    return np.repeat(ground[..., None], 3, axis=2)
