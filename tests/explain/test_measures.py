import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from fivl_hf.explain.measures import (
    MEASURES,
    auroc,
    average_precision,
    chance,
    iou_at,
    mass_lift,
    measured,
    mse,
    pointing_game,
    spearman,
)

LEVELS = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 3.0])
SHARES = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 1.0])


def cases(coverage):
    return st.integers(2, 12).flatmap(
        lambda n: st.tuples(arrays(float, (3, n), elements=LEVELS), arrays(float, n, elements=coverage))
    )


def row_by_row(score, rows, column):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array([score(row, column) for row in rows])


@given(cases(LEVELS))
def test_spearman_is_scipys_with_ties(case):
    rows, column = case
    expected = row_by_row(lambda row, column: spearmanr(row, column).statistic, rows, column)
    assert np.allclose(spearman(rows, column), expected, atol=1e-6, equal_nan=True)


def on_pixels(score):
    """Each token is one pixel inside the mask and one outside, of the weights that the coverage gives."""

    def scored(row, column):
        inside = np.repeat([1, 0], len(row))
        return score(inside, np.tile(row, 2), sample_weight=np.concatenate([column, 1 - column]))

    return scored


@given(cases(SHARES))
def test_measures_of_ranks_are_scikit_learns_on_pixels(case):
    rows, column = case
    if not 0 < column.sum() < len(column):
        assert np.isnan(auroc(rows, column)).all()
        assert np.isnan(average_precision(rows, column)).all()
        return
    assert np.allclose(auroc(rows, column), row_by_row(on_pixels(roc_auc_score), rows, column))
    expected = row_by_row(on_pixels(average_precision_score), rows, column)
    assert np.allclose(average_precision(rows, column), expected)


@given(cases(SHARES))
def test_measures_of_values_are_what_a_loop_gives(case):
    rows, column = case
    divided = 0 < column.sum() < len(column)
    for i, row in enumerate(rows):
        known = divided and row.max() > 0
        best = [c for a, c in zip(row, column, strict=True) if a == row.max()]
        expected = {
            "pointing_game": sum(best) / len(best) if divided else np.nan,
            "mass_lift": sum(row * column) / sum(row) / (sum(column) / len(column)) if known else np.nan,
            "mse": np.mean((row / row.max() - column / column.max()) ** 2) if known else np.nan,
        }
        found = measured(rows, column, list(expected))
        for name, value in expected.items():
            assert found[name][i] == pytest.approx(value, nan_ok=True), name
        for threshold, iou in zip((0.5, 1.0), iou_at(rows, column, (0.5, 1.0)), strict=True):
            above = row >= threshold * row.max()
            union = above.sum() + column.sum() - column[above].sum()
            assert iou[i] == pytest.approx(column[above].sum() / union if row.max() > 0 else np.nan, nan_ok=True)


@given(st.integers(2, 40), st.data())
def test_spearman_and_auroc_of_a_binary_mask_are_one_number(n, data):
    """The correlation is the AUROC, squeezed by the mask's size."""
    inside = data.draw(st.integers(1, n - 1))
    attention = data.draw(st.permutations(range(n)))
    mask = np.arange(n) < inside
    p = inside / n
    squeezed = np.sqrt(3 * p * (1 - p)) * (2 * auroc(attention, mask) - 1) / np.sqrt(1 - 1 / n**2)
    assert spearman(attention, mask) == pytest.approx(squeezed)


def test_all_heads_at_once_are_each_alone():
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.random((2, 8, 576)).astype(np.float32))
    column = np.clip(rng.random(576) - 0.6, 0, 1)
    together = measured(rows, column, list(MEASURES))
    for name, found in together.items():
        assert found.shape == (2, 8)
        for i, j in np.ndindex(2, 8):
            assert found[i, j] == pytest.approx(measured(rows[i, j], column, [name])[name])


def test_limits():
    assert spearman([[1, 2, 3], [3, 2, 1]], [0, 5, 9]).tolist() == [1, -1]
    assert auroc([[1, 2, 3], [3, 2, 1], [1, 1, 1]], [0, 0, 1]).tolist() == [1, 0, 0.5]
    assert mass_lift([0.0, 0.0, 1.0, 0.0], [0, 0, 1, 0]) == 4
    assert mse([[0.0, 0.2]], [0, 1]).tolist() == [0]
    assert pointing_game([[1, 3, 3], [3, 1, 1]], [0, 0, 1]).tolist() == [0.5, 0]
    assert np.isnan(spearman([1, 1, 1], [0, 5, 9]))
    assert np.isnan(spearman([1, 2, 3], [4, 4, 4]))
    for name in MEASURES:
        assert np.isnan(measured([1.0], [1.0], [name])[name])
        assert np.isnan(measured([[1, np.nan, 3]], [0, 0, 1], [name])[name]).all(), name
        assert np.isnan(measured([1, 2, 3], [1, np.nan, 0], [name])[name]), name
    with pytest.raises(ValueError, match="no measure 'kappa'; there are auroc"):
        measured([1, 2], [0, 1], ["kappa"])


def test_noise_is_at_its_chance():
    rng = np.random.default_rng(0)
    coverage = np.clip(rng.random(400) - 0.7, 0, 0.3) / 0.3
    noise = rng.random((4000, 400))
    for name in MEASURES:
        if name != "mse":
            found = measured(noise, coverage, [name])[name].mean()
            assert found == pytest.approx(chance(name, coverage), abs=0.02), name
    assert chance("mse", coverage) is None
    assert chance("pointing_game", []) is None


@pytest.mark.parametrize(("attention", "coverage"), [([[1, 2]], [1, 2, 3]), ([1], [[1]]), ([[]], [])])
@pytest.mark.parametrize("measure", [spearman, auroc, average_precision, pointing_game, mass_lift, mse])
def test_disagreeing_shapes(measure, attention, coverage):
    with pytest.raises(ValueError, match="must agree"):
        measure(attention, coverage)
