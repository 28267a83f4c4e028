import numpy as np
import pytest
from PIL import Image

from fivl_hf.show.drawing import PALETTE, frame_boxes, ink_on, outline_masks


def test_evidence_leaves_colours_as_they_are():
    """Inside a mask, away from its outline, every pixel is the image's own."""
    image = Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 30).convert("RGB")
    mask = np.zeros((64, 64), dtype=bool)
    mask[8:56, 8:56] = True
    drawn = np.asarray(outline_masks(image, [mask], side=64))
    assert np.array_equal(drawn[16:48, 16:48], np.asarray(image)[16:48, 16:48])
    assert drawn[:4].mean() < 0.8 * np.asarray(image)[:4].mean()


@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0), (213, 94, 0), (230, 40, 40), *PALETTE])
def test_frames_stand_out_on_any_ground(ground):
    """Of a frame's lines, one at least has a contrast of 3 : 1 with the ground."""
    image = Image.new("RGB", (64, 64), ground)
    framed = frame_boxes(image, [[8, 8, 56, 56]], side=64)
    colors = {color for _, color in framed.getcolors(1 << 16)}
    assert max(contrast(color, ground) for color in colors) > 3


def test_letters_are_legible_on_every_colour():
    assert all(contrast(color, ink_on(color)) >= 4.5 for color in PALETTE)


def contrast(first, second):
    """WCAG's contrast ratio."""

    def luminance(color):
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)
