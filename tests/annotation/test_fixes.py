import base64

import numpy as np
import pytest
from drawn_rows import expression, part_mask, row
from PIL import Image

from fivl_hf.annotation.fixes import checked_fix, fixed_expression, painted_mask
from fivl_hf.annotation.records import Annotation
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
    mask = painted_mask([layer, Image.new("RGBA", (80, 40))], (8, 4))
    assert mask.shape == (4, 8)
    assert mask[:, :4].all()
    assert not mask[:, 4:].any()


def test_fixes_are_applied_together():
    png = base64.b64encode(encode_mask(part_mask(5))).decode()
    fix = Annotation("d", text="A car and a dog", boxes=[[0.0, 0.0, 8.0, 5.0]], mask_png=png)
    fixed, mask = fixed_expression(ROW, 0, fix)
    assert (fixed.text, fixed.start, fixed.end, fixed.keywords) == ("A car and a dog", 0, 15, ("car", "dog"))
    assert fixed.boxes == ((0.0, 0.0, 8.0, 5.0),)
    assert np.array_equal(decode_mask(mask), part_mask(5))
    same, stored = fixed_expression(ROW, 0, Annotation("d"))
    assert (same, stored) == (ROW.key_expressions[0], ROW.masks[0])
    other = base64.b64encode(encode_mask(np.ones((3, 3), dtype=bool))).decode()
    with pytest.raises(ValueError, match="another size"):
        fixed_expression(ROW, 0, Annotation("d", mask_png=other))
