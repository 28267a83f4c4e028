import numpy as np
from PIL import Image

from fivl_hf.masks import paint_tokens
from fivl_hf.show.drawing import outline_masks
from fivl_hf.show.plots import head_map, overlay_tokens


def test_painting_by_hand():
    canvas = paint_tokens([1.0, 2.0, 3.0], [[0, 0, 2, 1], [2, 0, 4, 1], [np.nan] * 4], (4, 2))
    assert canvas[0].tolist() == [1, 1, 2, 2]
    assert np.isnan(canvas[1]).all()


def test_overlays_show_what_is_attended(rows):
    white = Image.new("RGB", (40, 40), "white")
    bright = np.asarray(
        overlay_tokens(white, [0.0, 1.0], [[0, 0, 20, 40], [20, 0, 40, 40]], side=40).convert("L")
    ).astype(float)
    assert bright[:, 20:].mean() > bright[:, :20].mean() + 50
    mask = np.zeros((40, 40), dtype=bool)
    mask[:20] = True
    dimmed = np.asarray(outline_masks(white, [mask], side=40).convert("L")).astype(float)
    assert dimmed[:20].mean() > dimmed[20:].mean() + 50


def test_head_map_frames_the_best_head():
    figure = head_map([[0.1, np.nan], [0.5, -0.2]], "T")
    (frame,) = [p for p in figure.axes[0].patches if p.get_linewidth() == 2]
    assert (frame.get_x() + 0.5, frame.get_y() + 0.5) == (0, 1)
    assert [t.get_text() for t in figure.axes[0].texts] == ["0.10", "0.50", "-0.20"]
