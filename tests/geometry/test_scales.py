import numpy as np
import pytest
from families import make

from fivl_hf.geometry import token_boxes, token_scales
from fivl_hf.geometry.registry import whole_view


@pytest.mark.parametrize(
    ("name", "size"),
    [("LLaVA-NeXT", (300, 150)), ("LLaVA-NeXT", (1600, 100)), ("LLaVA-OneVision", (300, 110)),
     ("LLaVA-OneVision", (800, 790)), ("LLaVA-OneVision", (100, 70)),
     ("SmolVLM", (300, 150)), ("InternVL", (300, 150)), ("Gemma 3, pan and scan", (300, 100))],
)  # fmt: skip
def test_tiles_and_the_whole_are_told_apart(name, size):
    processor, _ = make(name)
    boxes = token_boxes(processor, size)
    scales = token_scales(processor, boxes)
    for scale in ("whole", "tiles"):
        seen = boxes[scales == scale]
        # Each scale sees the whole image.
        assert seen[:, :2].min() == 0
        assert seen[:, 2].max() == pytest.approx(size[0], abs=3 + 0.04 * size[0])
    # The view of the whole has a cell for each of its tokens, side by side, at one end.
    places = np.flatnonzero(scales == "whole")
    assert np.ptp(places) + 1 == len(places) == abs(whole_view(processor))
    assert 0 in places or len(boxes) - 1 in places
    assert np.array_equal(scales == "", np.isnan(boxes[:, 0]))


@pytest.mark.parametrize("name", ["LLaVA-1.5, crop", "Qwen2.5-VL", "Mllama", "Gemma 3"])
def test_one_view_has_no_scales(name):
    processor, _ = make(name)
    assert set(token_scales(processor, token_boxes(processor, (60, 110)))) == {""}
    assert token_scales(processor, np.empty((0, 4))).tolist() == []
