import pytest

from fivl_hf.evaluation.reliance import reliance_of_answers
from fivl_hf.evaluation.scoring import exact_match, normalize_answer


def test_answers_by_hand():
    result = reliance_of_answers(["Yes.", "two dogs"], ["no", "Two  dogs!"], [["yes"], ["2 dogs", "two dogs"]])
    assert result["accuracy"] == 1.0
    assert result["masked_accuracy"] == 0.5
    assert result["visual_reliance_score"] == 0.5


@pytest.mark.parametrize(("a", "b"), [("C++", "C#"), ("-5", "5"), ("50%", "$50"), ("+", "-"), ("", "?")])
def test_signs_with_meaning_are_kept(a, b):
    assert exact_match(a, [b]) == 0.0
    assert exact_match(a, [a]) == 1.0


@pytest.mark.parametrize(
    ("text", "normal"), [(" Yes. ", "yes"), ("A  red\ncar!", "a red car"), ("...", "..."), ("U.S.", "u.s")]
)
def test_normalisation(text, normal):
    assert normalize_answer(text) == normal
    assert exact_match(text, [normal]) == 1.0
    assert exact_match(text + " no", [normal]) == 0.0
