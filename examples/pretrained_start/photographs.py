"""Make ``fivl_hf/scenes/photographs.webp``: the backgrounds and cut-outs that scenes are rendered with.

python examples/pretrained_start/photographs.py

All come from scikit-image's wheel and are in the public domain or under CC0: astronaut, rocket and hubble_deep_field
(NASA, SpaceX), chelsea, coffee, brick, grass, gravel (CC0), coins (no known copyright restrictions). The outlines of
the cut-outs were drawn by hand.
"""

import skimage.data
from PIL import Image, ImageDraw

from fivl_hf.scenes.photographs import ATLAS, BACKGROUNDS, CUT_OUT_SIDE, CUT_OUTS, TILE

Outline = list[tuple[int, int]]

# Of each cut-out: its photograph, ellipses as boxes, and a polygon.
SOURCES: dict[str, tuple[str, list[tuple[int, int, int, int]], Outline]] = {
    "astronaut": (
        "astronaut",
        [],
        [
            *((150, 80), (190, 30), (240, 15), (290, 45), (302, 110), (270, 155), (300, 190), (310, 245), (350, 290)),
            *((360, 350), (300, 360), (275, 420), (270, 505), (20, 505), (15, 420), (35, 300), (110, 215), (125, 170)),
            *((185, 150), (155, 120)),
        ],
    ),
    "cat": (
        "chelsea",
        [],
        [
            *((40, 60), (60, 20), (120, 5), (340, 5), (355, 60), (365, 110), (345, 170), (310, 225), (285, 265)),
            *((250, 275), (180, 265), (90, 235), (50, 170), (35, 110)),
        ],
    ),
    "coin": ("coins", [(305, 16, 363, 74)], []),
    "cup": ("coffee", [(173, 17, 402, 200), (77, 72, 478, 385)], []),
    "helmet": (
        "astronaut",
        [],
        [
            *((280, 440), (300, 390), (350, 350), (410, 345), (460, 375), (490, 430)),
            *((495, 480), (480, 505), (290, 505)),
        ],
    ),
    "rocket": (
        "astronaut",
        [],
        [
            *((395, 50), (415, 5), (435, 10), (445, 45), (455, 60), (450, 180)),
            *((462, 230), (440, 270), (375, 280), (355, 230), (375, 180), (380, 90)),
        ],
    ),
}


def main() -> None:
    atlas = Image.new("RGBA", (TILE * len(BACKGROUNDS), TILE + CUT_OUT_SIDE))
    for i, name in enumerate(BACKGROUNDS):
        atlas.paste(_square(_photograph(name)).resize((TILE, TILE), Image.Resampling.LANCZOS), (i * TILE, 0))
    for i, name in enumerate(CUT_OUTS):
        atlas.paste(_cut_out(*SOURCES[name]), (i * CUT_OUT_SIDE, TILE))
    atlas.save(ATLAS, quality=80, method=6)
    print(f"{ATLAS}: {atlas.width} × {atlas.height}, {ATLAS.stat().st_size / 1024:.0f} KB")


def _photograph(name: str) -> Image.Image:
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _cut_out(photograph: str, ellipses: list[tuple[int, int, int, int]], polygon: Outline) -> Image.Image:
    """Return the object alone, RGBA, as large as fits a tile and in its middle."""
    image = _photograph(photograph)
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    for box in ellipses:
        draw.ellipse(box, fill=255)
    if polygon:
        draw.polygon(polygon, fill=255)
    image.putalpha(mask)
    cut = image.crop(mask.getbbox())
    cut.thumbnail((CUT_OUT_SIDE, CUT_OUT_SIDE), Image.Resampling.LANCZOS)
    tile = Image.new("RGBA", (CUT_OUT_SIDE, CUT_OUT_SIDE))
    tile.paste(cut, ((CUT_OUT_SIDE - cut.width) // 2, (CUT_OUT_SIDE - cut.height) // 2))
    return tile


if __name__ == "__main__":
    main()
