import numpy as np
from families import make

from fivl_hf.geometry import token_boxes


def test_keys_of_a_tile_are_a_class_token_and_its_patches():
    """Tiles of 56 pixels in 8 × 8 patches of 7; a square image fills one of the four tiles."""
    processor, _ = make("Mllama")
    most = processor.image_processor.max_image_tiles
    boxes = token_boxes(processor, (56, 56)).reshape(most, 65, 4)
    assert np.isnan(boxes[:, 0]).all()
    assert np.isnan(boxes[1:]).all()
    assert boxes[0, 1].tolist() == [0, 0, 7, 7]
    assert boxes[0, 64].tolist() == [49, 49, 56, 56]


def test_a_wide_image_lies_on_several_tiles():
    processor, _ = make("Mllama")
    boxes = token_boxes(processor, (224, 56)).reshape(-1, 65, 4)[:, 1:]
    used = [tile for tile in boxes if np.isfinite(tile).any()]
    assert len(used) == 4
    assert np.nanmin(used[3]) == 0
    assert [np.nanmin(tile[:, 0]) for tile in used] == [0, 56, 112, 168]
