"""Rows as they are shown: colours, order, what is left out."""

import numpy as np
import pytest
from PIL import Image

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.cli.main import main
from fivl_hf.images import as_encoded, image_bytes
from fivl_hf.masks import encode_mask
from fivl_hf.show.drawing import PALETTE, frame_boxes, ink_on, outline_masks
from fivl_hf.show.row_pages import choose_rows, write_rows
from fivl_hf.show.row_views import Part, draw_row, view_row
from fivl_hf.storage import write_dataset


def expression(text, start, turn=0, image=0):
    end = start + len(text) if start >= 0 else -1
    fields = {"turn": turn, "text": text, "start": start, "end": end, "keywords": [text], "image": image}
    return {**fields, "boxes": [[0.0, 0.0, 4.0, 4.0]], "score": None}


def row(expressions, masks, images=1):
    image = as_encoded(image_bytes(Image.new("RGB", (8, 8), "white")))
    messages = [
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": "A car and a dog."},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes"},
    ]
    masks = [as_encoded(encode_mask(mask)) for mask in masks]
    return {
        "id": "a",
        "images": [image] * images,
        "messages": messages,
        "key_expressions": expressions,
        "masks": masks,
        "source": "s",
    }


def part_mask(count):
    mask = np.zeros((8, 8), dtype=bool)
    mask[:count] = True
    return mask


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
    assert found.asked == (Part("Sure", PALETTE[0], 0.25),)
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


def test_choice_is_the_same_each_time_and_in_order():
    rows = list(scene_rows("train", 30))
    first = [each["id"] for each in choose_rows(rows, row=None, id=None, sample=5, seed=3)]
    again = [each["id"] for each in choose_rows(rows, row=None, id=None, sample=5, seed=3)]
    assert first == again == sorted(first, key=[each["id"] for each in rows].index)
    assert choose_rows(rows, row=7, id=None, sample=5, seed=3) == [rows[7]]
    assert len(choose_rows(rows, row=None, id=None, sample=99, seed=0)) == 30
    with pytest.raises(ValueError, match="no row 30: the split has 30 rows"):
        choose_rows(rows, row=30, id=None, sample=1, seed=0)


def test_pages_escape_what_rows_say(tmp_path):
    hostile = row([expression("car", 2)], [part_mask(2)])
    hostile["messages"][0]["content"] = "<script>alert(1)</script>"
    write_rows(tmp_path / "rows.html", [hostile], "T")
    page = (tmp_path / "rows.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_other_turns_can_be_opened_and_the_evidence_taken_away(tmp_path):
    write_rows(tmp_path / "rows.html", [row([expression("car", 2)], [part_mask(4)])], "T")
    page = (tmp_path / "rows.html").read_text()
    more = page.split('<details class="turn">')[1].split("</details>")[0]
    assert "and 1 more turn<" in more
    assert "Sure?" in more
    assert page.count('<img class="evidence"') == 1
    assert 'id="evidence" checked' in page
    assert "not used in training: mask over 30% of the image" in page


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


def test_command_draws_pages_and_images(tmp_path, capsys):
    write_dataset(tmp_path / "set", {"test": scene_rows("test", 4)}, title="S", description="D")
    for name, options in (("a.html", ["--sample", "2"]), ("b.png", ["--row", "3"]), ("c.jpg", ["--id", "nobody"])):
        status = main(["show", str(tmp_path / "set"), "--output", str(tmp_path / name), *options])
        assert status == (1 if name == "c.jpg" else 0)
    assert "no row has the id 'nobody'; ids look like 'scene-0-test-0'" in capsys.readouterr().err
    assert (tmp_path / "a.html").read_text().count('<div class="card" id="row-') == 2
    with Image.open(tmp_path / "b.png") as image:
        assert image.width > 700
    assert main(["show", str(tmp_path / "set"), "--output", str(tmp_path / "d.txt")]) == 1
