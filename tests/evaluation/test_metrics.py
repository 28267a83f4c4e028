import pytest

import fivl_hf


def test_unknown_metric():
    with pytest.raises(ValueError, match="no metric named 'bleu'.*visual_reliance_score"):
        fivl_hf.load_metric("bleu")


def test_reliance_of_scores_that_are_known():
    metric = fivl_hf.load_metric("visual_reliance_score")
    result = metric.compute(scores=[1.0, 0.6, 0.4], masked_scores=[0.5, 0.0, 0.5], groups=["a", "a", "b"])
    assert (result["visual_reliance_score"], result["n"]) == (pytest.approx(0.5), 3)
    for wrong in ({"scores": [1.0]}, {"scores": [1.0], "masked_scores": [0.0], "scorer": "exact"}):
        with pytest.raises(ValueError, match="give scores and masked_scores, or predictions"):
            metric.compute(**wrong)
    with pytest.raises(ValueError, match="2 scores but 1 masked scores"):
        metric.compute(scores=[1.0, 0.0], masked_scores=[0.0])


def test_answers_that_cannot_be_read_are_counted():
    metric = fivl_hf.load_metric("visual_reliance_score")
    answers = {
        "predictions": ["maybe", "yes"],
        "masked_predictions": ["hm", "perhaps"],
        "references": [["yes"], ["yes"]],
    }
    result = metric.compute(**answers, scorer="pope-vlmevalkit")
    assert (result["accuracy"], result["unparsed"], result["masked_unparsed"]) == (0.5, 1, 2)


@pytest.mark.parametrize("scores", [[2.0, 0.0], [float("nan"), 0.0], [-1.0, 0.0]])
def test_impossible_scores_are_refused(scores):
    metric = fivl_hf.load_metric("visual_reliance_score")
    with pytest.raises(ValueError, match="scores must be from 0 to 1, got"):
        metric.compute(scores=scores, masked_scores=[0.0, 0.0])
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 2"):
        metric.compute(scores=[1.0], masked_scores=[0.0], confidence=2)
    with pytest.raises(ValueError, match="resamples must be from 1 to 10,000,000, got 100,000,000,000"):
        metric.compute(scores=[1.0], masked_scores=[0.0], resamples=10**11)
