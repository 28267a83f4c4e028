import numpy as np

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


def test_the_order_of_the_answers_does_not_matter_and_the_last_of_two_counts():
    rng = np.random.default_rng(0)
    answers = [
        Answer(str(i), condition, "q", ("a",), "a", float(rng.random() < 0.6), str(i % 70), picture=str(i // 3))
        for i in range(90)
        for condition in ("original", "removed", "random", "kept")
    ]
    shuffled = [answers[i] for i in rng.permutation(len(answers))]
    assert summarize(shuffled, resamples=200) == summarize(answers, resamples=200)
    again = [*table(), Answer("b", "original", "q", ("Yes.",), "no", 0.0)]
    assert collect(again).of("original").tolist() == [0.0, 0.0]


def test_nothing():
    scores = collect([])
    assert (scores.ids, scores.conditions, scores.values.shape) == ([], (), (0, 0))
    assert summarize([])["n"] == 0
