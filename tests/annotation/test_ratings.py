import pytest
from annotated import answer, study_of
from example_rows import change

from fivl_hf.annotation.ratings import collect_ratings
from fivl_hf.storage import with_encoded_images


def test_a_verdict_is_what_most_answered(rate):
    ratings = rate(
        {
            "r0/0": {"anna": "yyu", "ben": "ynu", "cleo": "nun"},
            "r1/1": {"anna": "y"},
        }
    )
    first, second = ratings.rated
    assert [first.verdict(question) for question in ("mask", "expression", "example")] == [True, None, False]
    assert [second.verdict(question) for question in ("mask", "expression", "example")] == [True, None, None]
    assert [first.is_disputed(question) for question in ("mask", "expression", "example")] == [True, True, False]
    assert not second.is_disputed("mask")
    assert first.image == second.image  # all are white
    assert first.expressions_of_turn == 2
    assert (second.item.source, second.item.coverage) == ("b", 0.75)
    assert ratings.annotators == ["anna", "ben", "cleo"]
    assert not ratings.weighted


def test_what_changed_since_does_not_count_and_is_named(tmp_path, few_rows):
    study = study_of(tmp_path, few_rows, ["anna"])
    for key in study.items:
        answer(study, "anna", key, "yyy")
    first = next(iter(study.items.values()))
    rows = [dict(few_rows[number]) for number in range(len(few_rows))]
    place = next(number for number, row in enumerate(rows) if row["id"] == first.id)
    rows[place] = change(rows[place], ("messages", 0, "content"), "How many?")
    changed = with_encoded_images(type(few_rows).from_list(rows, features=few_rows.features))
    ratings = collect_ratings(changed, [tmp_path])
    gone = {key for key in study.items if key.startswith(f"{first.id}/")}
    assert set(ratings.changed) == gone
    assert {each.item.key for each in ratings.rated} == set(study.items) - gone
    with pytest.raises(ValueError, match="6 are of expressions that are not in it"):
        collect_ratings(few_rows.select([]), [tmp_path])
