import json
from collections import Counter

import pytest
from drawn_rows import expression, part_mask, row
from example_rows import change

from fivl_hf.annotation.items import (
    Item,
    Verdict,
    draw_items,
    item_digest,
    judge_verdicts,
    make_item,
    matching_rows,
    with_gold,
)
from fivl_hf.storage import with_encoded_images


class Rows(list):
    """Rows with the columns that a dataset has."""

    def __getitem__(self, key):
        return [each[key] for each in self] if isinstance(key, str) else super().__getitem__(key)


def sized(sizes):
    """A row for each (source, lines of the 8 × 8 image that its mask covers)."""
    made = [row([expression("car", 2)], [part_mask(lines)]) for _, lines in sizes]
    return Rows({**each, "id": f"r{i}", "source": sizes[i][0]} for i, each in enumerate(made))


def test_a_draw_is_seeded_and_has_no_item_twice(dataset):
    rows = with_encoded_images(dataset)
    first = draw_items(rows, sample=10, seed=1)
    assert first == draw_items(rows, sample=10, seed=1)
    assert [each.key for each in first] != [each.key for each in draw_items(rows, sample=10, seed=2)]
    everything = draw_items(rows, sample=10_000)
    assert len({each.key for each in everything}) == sum(map(len, rows["key_expressions"]))


def test_strata_are_drawn_alike_and_weighted_by_how_common_they_are():
    # 12 of 1 / 8 of the image, 4 of 6 / 8: of six, three each, which stand for 4 and 4 / 3.
    rows = sized([("s", 1)] * 12 + [("s", 6)] * 4)
    drawn = draw_items(rows, sample=6, strategy="stratified")
    assert Counter(each.coverage for each in drawn) == {0.125: 3, 0.75: 3}
    assert {each.coverage: each.weight for each in drawn} == {0.125: 4, 0.75: pytest.approx(4 / 3)}
    sources = draw_items(sized([("a", 1)] * 9 + [("b", 1)]), sample=4, strategy="stratified")
    assert Counter(each.source for each in sources) == {"a": 3, "b": 1}


def test_what_the_judge_speaks_against_most_comes_first():
    rows = sized([("s", 1)] * 4)
    verdicts = {
        ("r1", 0, "car"): Verdict(True, True, False),
        ("r2", 0, "car"): Verdict(False, False, True),
        ("r3", 0, "car"): Verdict(None, False, None),
    }
    drawn = draw_items(rows, sample=4, strategy="disagreement", verdicts=verdicts)
    assert [each.id for each in drawn] == ["r2", "r3", "r1"]
    with pytest.raises(ValueError, match="none of these key expressions was judged"):
        draw_items(rows, sample=4, strategy="disagreement", verdicts={})


def test_rows_that_do_not_fit_the_schema_are_left_out_and_named():
    rows = sized([("s", 1)] * 4)
    rows[1] = change(rows[1], ("key_expressions", 0, "start"), 1)
    rows[2] = change(rows[2], ("masks", 0), {"bytes": b"broken", "path": None})
    skipped = []
    assert {each.id for each in draw_items(rows, sample=4, on_skip=skipped.append)} == {"r0", "r3"}
    assert len(skipped) == 2
    assert any("row 'r1': column 'key_expressions[0].start/end'" in reason for reason in skipped)
    with pytest.raises(ValueError, match="none of the rows"):
        draw_items(Rows(rows[1:3]), sample=4)


def test_rows_without_expressions_are_refused():
    with pytest.raises(ValueError, match="no key expressions to annotate"):
        draw_items(Rows([row([], [])]), sample=3)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("messages", 1, "content"), "A car and a cat."),
        (("key_expressions", 0, "boxes"), [[0.0, 0.0, 5.0, 4.0]]),
        (("masks", 0), row([expression("car", 2)], [part_mask(3)])["masks"][0]),
    ],
)
def test_the_digest_is_of_everything_that_is_seen(path, value):
    before = row([expression("car", 2)], [part_mask(2)])
    assert item_digest(before, 0) == item_digest(change(before, ("key_expressions", 0, "score"), 0.5), 0)
    assert item_digest(before, 0) != item_digest(change(before, path, value), 0)


def test_items_are_found_again_in_another_order_and_changed_ones_are_named():
    rows = sized([("s", 1), ("s", 2), ("s", 3)])
    items = [make_item(each, 0) for each in rows]
    moved = Rows([rows[2], change(rows[0], ("messages", 1, "content"), "A car and a cat.")])
    found, changed = matching_rows(moved, items)
    assert found == {"r2/0": 0}
    assert changed == ["r0/0", "r1/0"]


def test_gold_items_are_strewn_in_once():
    items = [Item(f"r{i}", 0, 0, "t", "", 0.1, "d") for i in range(30)]
    gold = [items[3], Item("g", 0, 0, "t", "", 0.1, "d")]
    mixed = with_gold(items, gold)
    assert len(mixed) == 31
    assert [each.key for each in mixed if each.gold] == ["r3/0", "g/0"]
    assert [i for i, each in enumerate(mixed) if each.gold] == [5, 15]


def test_judgements_are_read_and_other_files_refused(tmp_path):
    path = tmp_path / "judgements.jsonl"
    good = {"id": "a", "turn": 0, "text": "car", "important": False, "seg1": True, "seg2": None}
    path.write_text(json.dumps(good) + "\n")
    assert judge_verdicts(path) == {("a", 0, "car"): Verdict(False, True, None)}
    assert judge_verdicts(path)["a", 0, "car"].against == 1
    path.write_text(json.dumps({**good, "seg1": "yes"}) + "\n")
    with pytest.raises(ValueError, match="line 1, is not a judgement"):
        judge_verdicts(path)
    path.write_text(json.dumps({**good, "id": []}) + "\n")
    with pytest.raises(ValueError, match="id and text are texts"):
        judge_verdicts(path)
    with pytest.raises(FileNotFoundError):
        judge_verdicts(tmp_path / "none.jsonl")
