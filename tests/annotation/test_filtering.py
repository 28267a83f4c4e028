import base64

import pytest
from datasets import load_dataset
from drawn_rows import part_mask

from fivl_hf.annotation.filtering import Filter, card_front, filtered_description
from fivl_hf.masks import decode_mask, encode_mask
from fivl_hf.storage import write_dataset

SAID = {
    "r0/0": {"a": "yyy", "b": "yyy"},
    "r0/1": {"a": "nyy", "b": "nyy"},
    "r1/0": {"a": "yyn", "b": "yyn"},
    "r2/0": {"a": "yuy", "b": "yuy"},
}


def kept(filtering, rows):
    return {row["id"]: [each["text"] for each in row["key_expressions"]] for row in filtering.rows(rows)}


def test_good_is_what_people_say_yes_to(rate, few_rows):
    filtering = Filter(rate(SAID))
    assert kept(filtering, few_rows) == {"r0": ["car"]}
    assert filtering.counts == {
        "rows read": 4,
        "rows kept": 1,
        "rows dropped: a bad example": 1,
        "rows dropped: no good expression": 2,
        "expressions read": 8,
        "expressions kept": 1,
        "expressions dropped: mask is wrong": 1,
        "expressions dropped: of a bad example": 2,
        "expressions dropped: undecided": 1,
        "expressions dropped: not annotated": 3,
    }


def test_not_bad_is_what_nobody_rejects(rate, few_rows):
    filtering = Filter(rate(SAID), "not-bad")
    assert kept(filtering, few_rows) == {"r0": ["car"], "r2": ["car", "dog"], "r3": ["car", "dog"]}


def test_fixes_are_applied_and_what_is_fixed_is_not_wrong_any_more(rate, few_rows):
    png = base64.b64encode(encode_mask(part_mask(3))).decode()
    more = [
        ("a", "r0/1", "mask_png", png),
        ("b", "r0/0", "text", "A car"),
        ("a", "r2/0", "drop", True),
        ("b", "r2/0", "drop", True),
        ("a", "r0/0", "drop", True),  # one of two
    ]
    ratings = rate(SAID, more)
    row, *_ = list(Filter(ratings, "not-bad").rows(few_rows))
    assert [each["text"] for each in row["key_expressions"]] == ["A car", "dog"]
    assert row["key_expressions"][0]["start"] == 0
    assert decode_mask(row["masks"][1]).sum() == 24
    filtering = Filter(ratings, "not-bad")
    assert kept(filtering, few_rows)["r2"] == ["dog"]
    assert filtering.counts["expressions fixed"] == 2
    assert filtering.counts["expressions dropped: taken out by annotators"] == 1
    assert kept(Filter(ratings, "not-bad", fixes=False), few_rows)["r0"] == ["car"]


def test_masks_that_most_call_right_are_not_replaced(rate, few_rows):
    png = base64.b64encode(encode_mask(part_mask(3))).decode()
    said = {"r0/0": {"a": "yyy", "b": "yyy", "c": "nyy"}, "r0/1": {"a": "nyy", "b": "yyy"}}
    more = [("c", "r0/0", "mask_png", png), ("b", "r0/1", "mask_png", png), ("a", "r0/1", "text", "a dog")]
    row, *_ = list(Filter(rate(said, more)).rows(few_rows))
    # One of three painted what two call right; of the other, one called it wrong, and one painted: both fixes apply.
    assert [decode_mask(mask).sum() for mask in row["masks"]] == [16, 24]
    assert [each["text"] for each in row["key_expressions"]] == ["car", "a dog"]


def test_a_fix_that_the_row_cannot_take_is_named(rate, few_rows):
    other = base64.b64encode(encode_mask(part_mask(2)[:4])).decode()
    ratings = rate({"r0/0": {"a": "nyy"}}, [("a", "r0/0", "mask_png", other)])
    with pytest.raises(ValueError, match="row 'r0', the fix of 'car' cannot be applied: the painted mask has 8x4"):
        list(Filter(ratings).rows(few_rows))


def test_the_card_says_how_and_keeps_the_license(rate, few_rows, tmp_path):
    write_dataset(
        tmp_path / "set", {"train": few_rows}, title="T", description="D", front={"license": "mit", "private": True}
    )
    assert card_front(tmp_path / "set") == {"license": "mit"}
    assert card_front("org/on-the-hub") is None
    (tmp_path / "README.md").write_text("not ours")
    assert card_front(tmp_path) is None
    filtering = Filter(rate(SAID))
    write_dataset(
        tmp_path / "clean",
        {"train": filtering.rows(few_rows)},
        title="T",
        description=lambda: filtered_description("set", filtering),
        front=card_front(tmp_path / "set"),
    )
    card = (tmp_path / "clean" / "README.md").read_text()
    assert "license: mit" in card
    assert "Made of `set` by `fivl filter --keep good`: 2 people annotated 4 key expressions" in card
    assert "| expressions dropped: mask is wrong | 1 |" in card
    assert card.index("| rows kept | 1 |") < card.index("| expressions read | 8 |")
    assert load_dataset(str(tmp_path / "clean"), split="train")["id"] == ["r0"]


def test_nothing_left_is_an_error(rate, few_rows, tmp_path):
    filtering = Filter(rate({"r0/0": {"a": "nnn"}}))
    with pytest.raises(ValueError, match="no rows to write"):
        write_dataset(tmp_path / "clean", {"train": filtering.rows(few_rows)}, title="T", description="D")
