import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivl_hf.evaluation.reliance import reliance_of_answers, visual_reliance_score


@pytest.mark.parametrize(
    ("scores", "masked", "expected"),
    [
        ([1, 1, 1, 1], [0, 0, 0, 0], 1.0),
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),
        ([1, 0, 0, 0], [1, 1, 0, 0], -1.0),
        ([1, 1, 1, 0], [1, 0, 0, 0], 2 / 3),
        ([0.9, 0.3], [0.3, 0.3], 0.5),
    ],
)
def test_definition_by_hand(scores, masked, expected):
    result = visual_reliance_score(scores, masked)
    assert result["visual_reliance_score"] == pytest.approx(expected)
    assert result["n"] == len(scores)
    low, high = result["confidence_interval"]
    assert low <= expected + 1e-9 <= high + 2e-9


@pytest.mark.parametrize(("scores", "reason"), [([0, 0], "no answer is right"), ([], "no questions")])
def test_undefined_is_null_with_the_reason(scores, reason):
    result = visual_reliance_score(scores, [1] * len(scores))
    assert result["visual_reliance_score"] is None
    assert result["confidence_interval"] == [None, None]
    assert reason in result["reason"]


def test_interval_covers_the_truth():
    """200 draws from a population whose score is 0.5: a 90% interval holds it about 90% of the time."""
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        right = rng.random(150) < 0.8
        still = right & (rng.random(150) < 0.5)
        low, high = visual_reliance_score(right, still, resamples=300, confidence=0.9, seed=seed)["confidence_interval"]
        hits += low <= 0.5 <= high
    assert 165 <= hits <= 195


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20), st.randoms())
def test_order_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    a, b = (
        visual_reliance_score(*zip(*p, strict=True), resamples=5)["visual_reliance_score"] for p in (pairs, shuffled)
    )
    assert a == (pytest.approx(b) if b is not None else None)


def test_same_seed_same_interval():
    a, b = (visual_reliance_score([1, 1, 0, 1], [0, 1, 0, 1], seed=s)["confidence_interval"] for s in (3, 3))
    assert a == b


def test_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one entry per question"):
        reliance_of_answers(["a"], ["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="2 scores but 1 masked"):
        visual_reliance_score([1, 1], [1])
