"""The photographs that scenes are rendered with: backgrounds, and objects cut out by hand.

One small file holds them all; ``examples/pretrained_start/photographs.py`` makes it and names their sources.
"""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["ATLAS", "BACKGROUNDS", "CUT_OUTS", "CUT_OUT_SIDE", "TILE", "backgrounds", "cut_out"]

ATLAS = Path(__file__).with_name("photographs.webp")
BACKGROUNDS = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field", "rocket")
CUT_OUTS = ("astronaut", "cat", "coin", "cup", "helmet", "rocket")
TILE, CUT_OUT_SIDE = 128, 64


@cache
def _atlas() -> Image.Image:
    with Image.open(ATLAS) as image:
        return image.convert("RGBA")


@cache
def backgrounds() -> NDArray[np.uint8]:
    """Return all backgrounds, (B, TILE, TILE, 3)."""
    pixels = np.asarray(_atlas().convert("RGB"))[:TILE]
    return np.stack(np.split(pixels, len(BACKGROUNDS), axis=1))


@cache
def _tile(name: str) -> Image.Image:
    left = CUT_OUTS.index(name) * CUT_OUT_SIDE
    return _atlas().crop((left, TILE, left + CUT_OUT_SIDE, TILE + CUT_OUT_SIDE))


def cut_out(name: str, side: int, degrees: float) -> NDArray[np.uint8]:
    """Return an object of a photograph, turned, (side, side, 4) RGBA; opaque where alpha is 128 or more."""
    # Turned before it is made small, while it still has detail.
    turned = _tile(name).rotate(degrees, Image.Resampling.BILINEAR)
    return np.asarray(turned.resize((side, side), Image.Resampling.BOX))
