import pytest
from drawn_rows import expression, part_mask, row

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.show.row_pages import choose_rows, write_rows


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
