import numpy as np
import pytest

from fivl_hf import bootstrap
from fivl_hf.bootstrap import (
    cluster_sums,
    clustered_interval,
    clustered_mean_interval,
    clustered_wilson_interval,
)


def mean(values, **options):
    """The interval of a mean of values that each stand alone."""
    pairs = np.stack([values, np.ones(len(values))], axis=1)
    return clustered_interval(lambda totals: totals[:, 0] / totals[:, 1], pairs, **options)


def test_the_interval_of_a_mean_is_the_textbooks():
    """Of 400 normal values: 1.96 standard errors on both sides, to the accuracy of 10,000 resamples."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = mean(values)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_a_constant_has_an_interval_of_no_width():
    assert mean(np.full(20, 3.0)) == (3.0, 3.0)


def test_resamples_without_a_value_are_left_out():
    """A ratio whose denominator may be empty."""
    values = np.array([[1.0, 1.0]] + [[0.0, 0.0]] * 9)

    def ratio(totals):
        return np.divide(totals[:, 0], totals[:, 1], out=np.full(len(totals), np.nan), where=totals[:, 1] > 0)

    assert clustered_interval(ratio, values) == (1.0, 1.0)
    assert clustered_interval(ratio, np.zeros((10, 2))) is None
    assert clustered_interval(ratio, np.zeros((0, 2))) is None


def test_the_same_seed_gives_the_same_interval_in_chunks_of_any_size(monkeypatch):
    values = np.random.default_rng(1).random(50)
    whole = mean(values, seed=4)
    assert whole != mean(values, seed=5)
    monkeypatch.setattr(bootstrap, "_CHUNK", 500)
    assert mean(values, seed=4) == whole


def test_more_confidence_is_wider():
    values = np.random.default_rng(2).random(30)
    narrow, wide = (mean(values, confidence=c) for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_few_clusters_are_enumerated():
    """Of 0 and 1, four resamples: means 0, 1/2, 1/2, 1."""
    assert mean(np.array([0.0, 1.0]), confidence=0.5) == (0.375, 0.625)


def test_values_of_one_cluster_are_drawn_together():
    """Ten clusters of a hundred equal values say no more than ten values do."""
    values = np.arange(10.0)
    alone = clustered_mean_interval(values, np.ones(10))
    assert clustered_mean_interval(100 * values, np.full(10, 100.0)) == pytest.approx(alone)
    assert alone[0] < 4.5 < alone[1]
    assert clustered_mean_interval(np.array([3.0]), np.array([2.0])) is None
    # Clusters without a value do not count.
    assert clustered_mean_interval(np.array([2.0, 0.0]), np.array([2.0, 0.0])) == [1.0, 1.0]


def test_rows_are_added_up_by_cluster():
    sums = cluster_sums(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), ["b", "a", "b"])
    assert sums.tolist() == [[3.0, 4.0], [6.0, 8.0]]
    with pytest.raises(ValueError, match="1 scores, but 2 groups"):
        cluster_sums(np.zeros((1, 2)), ["a", "b"])


def test_wilsons_interval_of_a_share():
    """With one value in each cluster it is the textbook's: 8 of 10 are 0.490 to 0.943."""
    yes = np.array([1.0] * 8 + [0.0] * 2)
    assert clustered_wilson_interval(yes, np.ones(10)) == pytest.approx([0.4902, 0.9433], abs=1e-4)
    # Two clusters of five that are alike inside say less than ten values.
    low, high = clustered_wilson_interval(np.array([5.0, 0.0]), np.array([5.0, 5.0]))
    assert (low, high) == pytest.approx((0.0945, 0.9055), abs=1e-4)  # 1 of 2
