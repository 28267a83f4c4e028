import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from fivl_hf.explain.alignment import AlignmentMap, align, spearman, summary, top_heads

levels = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 3.0])


def one_by_one(rows, column):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array([spearmanr(row, column).statistic for row in rows])


@given(
    st.integers(2, 12).flatmap(
        lambda n: st.tuples(arrays(float, (3, n), elements=levels), arrays(float, n, elements=levels))
    )
)
def test_equal_to_scipy_with_ties(case):
    rows, column = case
    assert np.allclose(spearman(rows, column), one_by_one(rows, column), atol=1e-6, equal_nan=True)


def test_equal_to_scipy_at_full_size():
    rng = np.random.default_rng(0)
    rows = rng.random((2, 8, 576)).astype(np.float32)
    column = np.maximum(rng.random(576) - 0.6, 0)
    got = spearman(torch.from_numpy(rows), column)
    assert got.shape == (2, 8)
    assert np.allclose(got.reshape(-1), one_by_one(rows.reshape(16, 576), column), atol=1e-6)


def test_limits():
    assert spearman([[1, 2, 3], [3, 2, 1], [1, 1, 1]], [0, 5, 9]).tolist()[:2] == [1, -1]
    assert np.isnan(spearman([1, 1, 1], [0, 5, 9]))
    assert np.isnan(spearman([1, 2, 3], [4, 4, 4]))
    assert np.isnan(spearman([1.0], [1.0]))
    assert np.isnan(spearman([[1, np.nan, 3]], [1, 2, 3]))
    assert np.isnan(spearman([1, 2, 3], [1, np.nan, 3]))
    with pytest.raises(ValueError, match="sample 1: attention"):
        align([([[[1, 2]]], [0, 1]), ([[[1, 2]]], [0, 1, 2])])


@pytest.mark.parametrize(("attention", "coverage"), [([[1, 2]], [1, 2, 3]), ([1], [[1]]), ([[]], [])])
def test_disagreeing_shapes(attention, coverage):
    with pytest.raises(ValueError, match="must agree"):
        spearman(attention, coverage)


def test_map_is_the_mean_over_samples_that_count():
    result = align(
        [
            ([[[1, 2, 3], [3, 2, 1]]], [0, 1, 2]),
            ([[[1, 2, 3, 4], [1, 1, 1, 1]]], [4, 3, 2, 1]),
            ([[[1, 2], [2, 1]]], [1, 1]),
        ]
    )
    assert result.mean().tolist() == [[0.0, -1.0]]
    assert result.n == 2


def test_summary_and_top_heads():
    result = AlignmentMap()
    result.add(np.array([[0.1, np.nan], [0.5, -0.2]]))
    assert summary(result)["alignment"] == [[0.1, None], [0.5, -0.2]]
    assert top_heads(result.mean(), 2) == [
        {"layer": 1, "head": 0, "score": 0.5},
        {"layer": 0, "head": 0, "score": 0.1},
    ]
    assert summary(AlignmentMap()) == {"alignment": [], "top_heads": [], "n": 0}
    with pytest.raises(ValueError, match="layers x heads"):
        result.add(np.zeros((3, 3)))
