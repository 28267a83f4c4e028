import pytest
from drawn_rows import expression, part_mask, row

from fivl_hf.show.row_index import RowFilter, RowIndex


@pytest.fixture
def index(tmp_path):
    """Four rows: of 8 lines, their masks cover 1, none, 7 and 3; scores 0.2, none, 0.9, 0.5; the last has one turn."""
    made = [
        {**row([{**expression("car", 2), "score": 0.2}], [part_mask(1)]), "id": "a", "source": "gqa"},
        {**row([], []), "id": "b_1", "source": "vg"},
        {**row([{**expression("dog", 12), "score": 0.9}], [part_mask(7)]), "id": "c", "source": "gqa"},
        {**row([{**expression("car", 2), "score": 0.5}], [part_mask(3)]), "id": "d", "source": "gqa"},
    ]
    made[3]["messages"] = [
        {"role": "user", "content": "50% of it?"},
        {"role": "assistant", "content": "A car's \\ half"},
    ]
    found = RowIndex(tmp_path / "rows.sqlite")
    found.add(made[:2])
    found.add(made[2:])
    found.measure([each["masks"] for each in made])
    return found


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [0, 1, 2, 3]),
        ({"search": "CAR sure"}, [0, 1, 2]),  # each word somewhere in the conversation
        ({"search": "50%"}, [3]),
        ({"search": "%"}, [3]),
        ({"search": "_"}, [1]),
        ({"search": "\\"}, [3]),
        ({"search": "car's"}, [3]),
        ({"search": "'; DROP TABLE rows; --"}, []),
        ({"word": "Dog"}, [2]),
        ({"word": "do"}, []),  # whole words
        ({"source": "vg"}, [1]),
        ({"band": "5% to 20%"}, [0]),
        ({"band": "20% to 50%"}, [3]),
        ({"turns": 2}, [0, 1, 2]),
        ({"score": 0.5}, [2, 3]),
        ({"sort": "largest mask first"}, [2, 3, 0, 1]),
        ({"sort": "smallest mask first"}, [0, 3, 2, 1]),
        ({"sort": "best score first"}, [2, 3, 0, 1]),
        ({"sort": "worst score first"}, [0, 3, 2, 1]),
        ({"source": "gqa", "word": "car", "sort": "best score first"}, [3, 0]),
    ],
)
def test_rows_are_found(index, wanted, numbers):
    assert index.find(RowFilter(**wanted), 0, 10) == (numbers, len(numbers))


def test_pages_sources_and_wrong_wishes(index):
    assert index.find(RowFilter(), 1, 2) == ([1, 2], 4)
    assert index.sources() == ["gqa", "vg"]
    with pytest.raises(ValueError, match="rows are sorted by"):
        index.find(RowFilter(sort="number; DROP TABLE rows"), 0, 1)
    with pytest.raises(ValueError, match="mask sizes are"):
        index.find(RowFilter(band="huge"), 0, 1)


def test_masks_are_measured_later_and_unreadable_ones_have_no_size(tmp_path):
    index = RowIndex(tmp_path / "rows.sqlite")
    index.add([{**row([expression("car", 2)], [part_mask(2)]), "id": str(i)} for i in range(2)])
    assert index.find(RowFilter(sort="largest mask first"), 0, 9) == ([0, 1], 2)
    assert index.find(RowFilter(band="20% to 50%"), 0, 9) == ([], 0)
    index.measure([[{"bytes": b"no image", "path": None}, {"bytes": None, "path": "/etc/passwd"}]])
    index.measure([row([], [part_mask(2)])["masks"]])
    assert (index.indexed, index.measured) == (2, 2)
    assert index.find(RowFilter(band="20% to 50%"), 0, 9) == ([1], 1)


def test_benchmark_rows_are_searched_by_question_and_answers(tmp_path):
    index = RowIndex(tmp_path / "rows.sqlite")
    index.add([{"id": "q", "source": None, "question": "Is it red?", "answers": ["yes"], "key_expressions": []}])
    assert index.find(RowFilter(search="red yes", turns=1), 0, 1) == ([0], 1)
