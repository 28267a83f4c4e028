import numpy as np
import pytest

from fivl_hf import bootstrap
from fivl_hf.bootstrap import bootstrap_interval, clustered_mean_interval


def mean_of(values):
    return lambda indices: np.asarray(values, dtype=float)[indices].mean(axis=1)


def test_the_interval_of_a_mean_is_the_textbooks():
    """Of 400 normal values: 1.96 standard errors on both sides, to the accuracy of 4,000 resamples."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = bootstrap_interval(mean_of(values), 400, resamples=4_000)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_a_constant_has_an_interval_of_no_width():
    assert bootstrap_interval(mean_of([3, 3, 3]), 3) == (3.0, 3.0)


def test_resamples_without_a_value_are_left_out():
    """A ratio whose denominator may be empty: defined where index 0 was not drawn."""
    interval = bootstrap_interval(lambda indices: np.where((indices == 0).any(axis=1), np.nan, 1.0), 2)
    assert interval == (1.0, 1.0)
    assert bootstrap_interval(lambda indices: np.full(len(indices), np.nan), 2) is None


def test_the_same_seed_gives_the_same_interval_in_chunks_of_any_size(monkeypatch):
    values = np.random.default_rng(1).random(50)
    whole = bootstrap_interval(mean_of(values), 50, seed=4)
    assert whole != bootstrap_interval(mean_of(values), 50, seed=5)
    monkeypatch.setattr(bootstrap, "_CHUNK", 500)
    assert bootstrap_interval(mean_of(values), 50, seed=4) == whole


def test_more_confidence_is_wider():
    values = np.random.default_rng(2).random(30)
    narrow, wide = (bootstrap_interval(mean_of(values), 30, confidence=c) for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_values_of_one_cluster_are_drawn_together():
    """Ten clusters of a hundred equal values say no more than ten values do."""
    values = np.arange(10.0)
    alone = clustered_mean_interval(values, np.ones(10))
    assert clustered_mean_interval(100 * values, np.full(10, 100.0)) == pytest.approx(alone)
    assert alone[0] < 4.5 < alone[1]
    assert clustered_mean_interval(np.array([3.0]), np.array([2.0])) is None
    # Clusters without a value do not count.
    assert clustered_mean_interval(np.array([2.0, 0.0]), np.array([2.0, 0.0])) == [1.0, 1.0]
