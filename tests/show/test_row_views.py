"""Rows as they are shown: colours, order, what is left out."""

import numpy as np
from drawn_rows import expression, part_mask, row
from PIL import Image

from fivl_hf.images import as_encoded, image_bytes
from fivl_hf.show.drawing import PALETTE
from fivl_hf.show.row_views import Part, draw_row, view_row


def test_expressions_take_the_colours_of_their_masks_and_share_them():
    found = view_row(
        row(
            [expression("car", 2), expression("dog", 12), expression("Sure", -1, turn=1)],
            [part_mask(2), part_mask(4), part_mask(2)],
        )
    )
    assert found.turns[0].parts == (
        Part("A "),
        Part("car", PALETTE[0]),
        Part(" and a "),
        Part("dog", PALETTE[1]),
        Part("."),
    )
    assert found.from_question == (Part("Sure", PALETTE[0], 0.25),)
    assert [part.coverage for part in found.legend] == [0.25, 0.5, 0.25]
    assert found.share == 0.5
    assert [part.unusable for part in found.legend] == ["", "mask over 30% of the image", ""]
    assert found.more == ()


def test_the_image_with_most_expressions_is_shown():
    found = view_row(
        row([expression("car", 2, image=1), expression("dog", 12)], [part_mask(1), part_mask(2)], images=2)
    )
    assert {part.color for part in found.legend} == {PALETTE[0], (221, 221, 221)}


def test_a_row_without_evidence_is_shown_too():
    found = view_row(row([], []))
    assert found.share is None
    assert len(found.turns) == 2
    assert draw_row(found).size[1] > 100


def test_a_line_of_pixels_is_drawn():
    thin = row([expression("car", 2)], [np.ones((1, 5000), dtype=bool)])
    thin["images"] = [as_encoded(image_bytes(Image.new("RGB", (5000, 1))))]
    thin["key_expressions"][0]["boxes"] = [[3.0, 0.0, 4.0, 1.0]]
    assert view_row(thin, boxes=True).image.size == (420, 1)


def test_drawn_text_has_coloured_grounds():
    sheet = draw_row(view_row(row([expression("car", 2)], [part_mask(2)]), side=100))
    colors = {color for _, color in sheet.getcolors(1 << 20)}
    assert PALETTE[0] in colors
