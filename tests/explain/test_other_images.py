import numpy as np

from fivl_hf.explain.other_images import OtherImage, OtherImages, image_groups
from fivl_hf.explain.samples import prepare
from fivl_hf.masks import decode_mask


def found(rows, processor):
    return OtherImages(rows, image_groups(rows), processor.tokenizer)


def test_the_next_row_about_another_image_with_evidence(processor, rows):
    bare = {**rows[2], "key_expressions": [], "masks": []}
    broken = {**rows[3], "images": [{"bytes": None, "path": "nowhere.png"}]}
    same = {**rows[0], "id": "same"}
    given = [rows[0], same, bare, broken, rows[1]]
    others = found(given, processor)
    for number in (0, 1):
        assert np.array_equal(others.of(number).mask, decode_mask(rows[1]["masks"][0]))
    # After the last row, the first.
    assert np.array_equal(others.of(4).mask, decode_mask(rows[0]["masks"][0]))
    assert found([rows[0], same, bare], processor).of(0) == OtherImage(None, None)


def test_rows_with_an_image_in_common_are_one_group(rows):
    """Also those linked by another row alone, in any order."""
    images = [rows[number]["images"][0] for number in range(5)]
    given = [[0], [1], [2, 1], [3], [0, 2], [4], [3]]
    for order in (given, given[::-1]):
        groups = image_groups([{"images": [images[number] for number in each]} for each in order])
        by_row = dict(zip(map(tuple, order), groups, strict=True))
        linked = {by_row[each] for each in ((0,), (1,), (2, 1), (0, 2))}
        assert len(linked) == 1
        assert len({*linked, by_row[3,], by_row[4,]}) == 3
        assert groups[order.index([3])] == groups[len(order) - 1 - order[::-1].index([3])]
    assert image_groups([{"images": None}, {"images": [{"bytes": None, "path": "nowhere.png"}]}]) == ["", ""]


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
