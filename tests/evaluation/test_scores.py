import numpy as np
import pytest

from fivl_hf.evaluation.scores import collect
from fivl_hf.evaluation.summary import summarize
from fivl_hf.evaluation.table import Answer


def table():
    return [
        Answer("b", "original", "q", ("Yes.",), "yes", 1.0, "x", picture="p"),
        Answer("b", "random", "q", ("Yes.",), "Yes!", 0.5, "x", overlap=0.25, picture="p"),
        Answer("a", "original", "q", ("no",), "?", 0.0, has_evidence=False, parsed=False),
    ]


def test_answers_are_arranged_by_id_and_condition():
    scores = collect(table())
    assert (scores.ids, scores.conditions) == (["a", "b"], ("original", "random"))
    assert np.array_equal(scores.values, [[0.0, np.nan], [1.0, 0.5]], equal_nan=True)
    assert scores.unparsed.tolist() == [[True, False], [False, False]]
    assert scores.has_evidence.tolist() == [False, True]
    assert scores.overlap.tolist() == [0.0, 0.25]
    assert scores.categories.tolist() == ["", "x"]
    # Where the picture is not known, a question is alone.
    assert scores.pictures.tolist() == ["a", "p"]
    assert scores.first_references.tolist() == ["no", "yes"]
    assert scores.asked("original", "random").tolist() == [False, True]
    assert scores.asked("kept").tolist() == [False, False]
    assert scores.texts("original")[1] == scores.texts("random")[1] != scores.texts("original")[0]


def test_the_order_of_the_answers_does_not_matter():
    rng = np.random.default_rng(0)
    answers = [
        Answer(str(i), condition, "q", ("a",), "a", float(rng.random() < 0.6), str(i % 70), picture=str(i // 3))
        for i in range(90)
        for condition in ("original", "removed", "random", "kept")
    ]
    shuffled = [answers[i] for i in rng.permutation(len(answers))]
    assert summarize(shuffled, resamples=200) == summarize(answers, resamples=200)


def test_two_answers_to_a_question_under_one_condition_are_refused():
    again = Answer("b", "original", "q", ("Yes.",), "no", 0.0)
    with pytest.raises(ValueError, match="question 'b' has two answers under 'original': keep one of them"):
        collect([*table(), again])


def test_how_answers_ended_is_counted():
    ended = [("x", "length"), ("y", "stop"), ("", "stop"), ("I cannot.", "refusal"), ("z", "length"), ("w", "")]
    answers = [
        Answer(str(i), "original", "q", ("x",), text, 0.0, finish_reason=reason)
        for i, (text, reason) in enumerate(ended)
    ]
    assert collect(answers).endings == {"original": {"empty": 1, "length": 2, "refusal": 1}}


def test_nothing_can_be_taken_from_questions_without_evidence():
    answers = [
        Answer(id, condition, "q", ("x",), "x", score, has_evidence=id == "a")
        for id, condition, score in [
            ("a", "original", 1.0),
            ("a", "removed-blur", 0.0),
            ("a", "kept", 0.5),
            ("b", "original", 1.0),
        ]
    ]
    everything = collect(answers).with_unchanged()
    assert everything.conditions == ("kept", "original", "removed-blur")
    assert np.array_equal(everything.values, [[0.5, 1.0, 0.0], [np.nan, 1.0, 1.0]], equal_nan=True)


def test_nothing():
    scores = collect([])
    assert (scores.ids, scores.conditions, scores.values.shape) == ([], (), (0, 0))
    assert summarize([])["n"] == 0
