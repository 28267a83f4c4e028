import base64

import numpy as np
import pytest
from drawn_rows import expression, part_mask, row
from PIL import Image

from fivl_hf.annotation.fixes import checked_fix, fixed_expression, painted_mask, resized_mask
from fivl_hf.masks import decode_mask, encode_mask
from fivl_hf.schema import validate_row

# "A car and a dog."
ROW = validate_row(row([expression("car", 2)], [part_mask(2)]))


def test_words_are_taken_as_the_answer_has_them():
    assert checked_fix(ROW, 0, "text", "a CAR") == "A car"
    assert checked_fix(ROW, 0, "text", "car") == ""  # as it is
    assert checked_fix(ROW, 0, "missed", ["DOG", "dog"]) == ["dog"]
    with pytest.raises(ValueError, match="'cat' is not in the answer"):
        checked_fix(ROW, 0, "text", "cat")
    with pytest.raises(ValueError, match="'car' is a key expression of this answer already"):
        checked_fix(ROW, 0, "missed", ["car"])
    with pytest.raises(ValueError, match="'' is not in the answer"):
        checked_fix(ROW, 0, "missed", [""])


def test_boxes_are_cut_to_the_image():
    assert checked_fix(ROW, 0, "boxes", [[5, -3, 1, 99]]) == [[1, 0, 5, 8]]
    assert checked_fix(ROW, 0, "boxes", None) is None
    with pytest.raises(ValueError, match="at least a pixel"):
        checked_fix(ROW, 0, "boxes", [[9, 0, 20, 4]])
    assert checked_fix(ROW, 0, "comment", "cat") == "cat"


def test_a_painted_layer_is_scaled_to_the_image():
    layer = Image.new("RGBA", (80, 40), (255, 140, 0, 0))
    layer.paste((255, 140, 0, 178), (0, 0, 40, 40))
    mask = painted_mask([layer, Image.new("RGBA", (80, 40))], np.zeros((4, 8), dtype=bool))
    assert mask.shape == (4, 8)
    assert mask[:, :4].all()
    assert not mask[:, 4:].any()


def test_what_is_not_painted_stays_to_the_pixel():
    """A line of one pixel in a large mask is gone in the editor's small copy, and is there afterwards."""
    before = np.zeros((1000, 1000), dtype=bool)
    before[100] = True
    before[600:800, 600:800] = True
    shown = resized_mask(before, (100, 100))
    assert not shown[10].any()
    layer = Image.new("RGBA", (100, 100), (255, 140, 0, 0))
    layer.putalpha(Image.fromarray(np.where(shown, 178, 0).astype(np.uint8)))
    assert np.array_equal(painted_mask([layer], before), before)
    layer.paste((0, 0, 0, 0), (60, 60, 80, 70))  # erased
    layer.paste((255, 140, 0, 178), (0, 90, 10, 100))
    after = painted_mask([layer], before)
    assert after[100].all()
    assert not after[605:695, 605:795].any()
    assert after[705:795, 605:795].all()
    assert after[905:995, 5:95].all()


def test_fixes_are_applied_together():
    png = base64.b64encode(encode_mask(part_mask(5))).decode()
    fixed, mask = fixed_expression(ROW, 0, text="A car and a dog", boxes=[[0.0, 0.0, 8.0, 5.0]], mask_png=png)
    assert (fixed.text, fixed.start, fixed.end, fixed.keywords) == ("A car and a dog", 0, 15, ("car", "dog"))
    assert fixed.boxes == ((0.0, 0.0, 8.0, 5.0),)
    assert np.array_equal(decode_mask(mask), part_mask(5))
    assert fixed_expression(ROW, 0) == (ROW.key_expressions[0], ROW.masks[0])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (encode_mask(np.ones((3, 3), dtype=bool)), "3x3 pixels, the image 8x8"),
        (encode_mask(np.zeros((8, 8), dtype=bool)), "covers nothing"),
        (b"no image", "unreadable image"),
    ],
)
def test_a_painted_mask_is_checked(mask, message):
    with pytest.raises(ValueError, match=message):
        checked_fix(ROW, 0, "mask_png", base64.b64encode(mask).decode())
    assert checked_fix(ROW, 0, "mask_png", "") == ""


def test_of_several_places_the_nearest_is_taken_and_another_expression_is_not():
    two = row([expression("dog", 12), expression("car", 2)], [part_mask(2)] * 2)
    two["messages"][1]["content"] = "A car and a dog, a car."
    checked = validate_row(two)
    fixed, _ = fixed_expression(checked, 0, text="a")
    assert (fixed.start, fixed.end) == (10, 11)  # "a dog"; an "a" is at 3, 6, 10, 17 and 20
    with pytest.raises(ValueError, match="'car' is a key expression of this answer already"):
        checked_fix(checked, 0, "text", "car")
