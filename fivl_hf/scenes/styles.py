"""The words of free scenes and the styles in which they are rendered."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["COLORS", "EDITION", "HABITS", "HELD_OUT", "SHAPES", "SIDE", "STYLES", "SceneStyle"]

SIDE = 56
# Raise this whenever free scenes or their questions change: stored results are named after it.
EDITION = 3
# Hue in degrees, and how far a word's shades reach to both sides of it; saturation and brightness vary as well.
COLORS = {
    "red": (357.0, 9.0),
    "orange": (28.0, 7.0),
    "yellow": (54.0, 7.0),
    "green": (125.0, 22.0),
    "blue": (220.0, 18.0),
    "purple": (285.0, 14.0),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar")
# Colours that some shapes usually have, so that language alone can guess them, as with bananas.
HABITS = {"ring": "yellow", "cross": "red", "bar": "blue"}
_FLIPPED = {"ring": "purple", "cross": "green", "bar": "red"}
# Stage 2, and the language model before it, see each colour and each shape, but these six never together.
HELD_OUT = frozenset({"red circle", "orange square", "yellow triangle", "green ring", "purple cross", "orange bar"})


@dataclass(frozen=True)
class SceneStyle:
    """The look of scenes, and the usual colours of their shapes.

    Attributes:
        grid: centres on patch corners, nothing turned: the easy places of the first edition of scenes.
        photographs: objects cut out of photographs in place of drawn shapes.
        outlined: black outlines on a dark, hatched ground.
        shaded: objects are brighter towards the light.
        spacing: least distance between two centres, as a multiple of both radii's sum; below 1 objects may overlap.
        habit: how often a shape has its usual colour, beyond chance.
        habits: the usual colours.
    """

    grid: bool = False
    photographs: bool = False
    outlined: bool = False
    shaded: bool = True
    spacing: float = 0.55
    habit: float = 0.5
    habits: Mapping[str, str] = field(default_factory=lambda: HABITS)


STYLES = {
    "free": SceneStyle(),
    "grid": SceneStyle(grid=True, spacing=0.8),
    "outlined": SceneStyle(outlined=True, shaded=False),
    "photographs": SceneStyle(photographs=True, spacing=0.8),
    "flipped": SceneStyle(habits=_FLIPPED),
    # What the vision tower is trained on: no shape has a usual colour.
    "even": SceneStyle(habit=0.0, spacing=0.8),
}
