"""All scenes by their ids: the patch-aligned ones and the styles of free ones."""

from collections.abc import Iterator

from fivl_hf.scenes.free import FreeScene, free_scene
from fivl_hf.scenes.rendering import SPLITS, Scene, scene
from fivl_hf.scenes.styles import STYLES

__all__ = ["ALIGNED", "STYLE_NAMES", "find_scene", "scene_ids"]

# The first edition: objects of 2 × 2 patches, quick to learn.
ALIGNED = "aligned"
STYLE_NAMES = (ALIGNED, *STYLES)


def find_scene(scene_id: str) -> Scene | FreeScene:
    """Return the scene of an id; raises ValueError for one that is not a scene's."""
    return scene(scene_id) if scene_id.startswith("scene-") else free_scene(scene_id)


def scene_ids(style: str, split: str, seed: int, start: int, count: int) -> Iterator[str]:
    """Return the ids of ``count`` scenes of a style and split, beginning with number ``start``.

    Raises:
        ValueError: an unknown style or split.
    """
    if style not in STYLE_NAMES:
        raise ValueError(f"style must be one of {STYLE_NAMES}, got {style!r}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    first = "scene" if style == ALIGNED else style
    return (f"{first}-{seed}-{split}-{number}" for number in range(start, start + count))
