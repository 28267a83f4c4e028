import json

import pytest

from fivl_hf.files.appended import AppendedLines


@pytest.fixture
def numbers(tmp_path):
    return AppendedLines(
        tmp_path / "numbers.jsonl", "a number", read=lambda value: int(value["n"]), write=lambda n: {"n": n}
    )


def test_what_was_appended_is_read_in_order(numbers):
    assert list(numbers) == []
    numbers.append([1, 2])
    numbers.append(iter([3]))
    assert list(numbers) == [1, 2, 3]
    assert numbers.path.read_text() == '{"n": 1}\n{"n": 2}\n{"n": 3}\n'


@pytest.mark.parametrize("rest", ['{"n": 4', "x" * 100_000, "{"])
def test_a_line_that_was_cut_off_is_passed_over_and_then_replaced(numbers, rest):
    numbers.append([1, 2])
    with numbers.path.open("a") as file:
        file.write(rest)
    assert list(numbers) == [1, 2]
    numbers.append([3])
    assert list(numbers) == [1, 2, 3]


def test_a_file_of_one_cut_line_is_empty(numbers):
    numbers.path.write_text('{"n"')
    assert list(numbers) == []
    numbers.append([1])
    assert list(numbers) == [1]


@pytest.mark.parametrize("line", ["[]", '{"m": 1}', '{"n": "x"}', "nonsense", '{"n": null}'])
def test_a_line_that_is_something_else_is_named(numbers, line):
    numbers.append([1])
    with numbers.path.open("a") as file:
        file.write(f"{line}\n{json.dumps({'n': 2})}\n")
    with pytest.raises(ValueError, match=r"numbers.jsonl, line 2, is not a number"):
        list(numbers)
