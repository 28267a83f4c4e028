import numpy as np

from fivl_hf.explain.other_images import OtherImage, OtherImages, image_key
from fivl_hf.explain.samples import prepare
from fivl_hf.masks import decode_mask


def test_the_next_row_about_another_image_with_evidence(processor, rows):
    bare = {**rows[2], "key_expressions": [], "masks": []}
    broken = {**rows[3], "images": [{"bytes": None, "path": "nowhere.png"}]}
    same = {**rows[0], "id": "same"}
    others = OtherImages([rows[0], same, bare, broken, rows[1]], processor.tokenizer)
    assert others.key(0) == others.key(1) == image_key(rows[0]) != others.key(4)
    for number in (0, 1):
        assert np.array_equal(others.of(number).mask, decode_mask(rows[1]["masks"][0]))
    # After the last row, the first.
    assert np.array_equal(others.of(4).mask, decode_mask(rows[0]["masks"][0]))
    assert OtherImages([rows[0], same, bare], processor.tokenizer).of(0) == OtherImage(None, None)


def test_a_mask_is_stretched_over_the_image(model, processor, rows):
    sample = prepare(model, processor, rows[0])
    half = np.zeros((10, 20), dtype=bool)
    half[:, :10] = True
    covered = OtherImage(half).coverage(sample, 0)
    width = sample.images[0].width
    left = (sample.boxes[:, 2] <= width / 2 + 1e-6).astype(float)
    sure = (sample.boxes[:, 2] <= width / 2) | (sample.boxes[:, 0] >= width / 2)
    assert np.allclose(covered[sure], left[sure])
    assert OtherImage().coverage(sample, 0) is None
