import numpy as np
import pytest
from scipy.stats import binom

from fivl_hf.evaluation.statistics import (
    accuracy_permutation,
    holm,
    mcnemar_midp,
    paired_bootstrap,
    reliance_permutation,
)


def naive_interval(scores, masked, groups, resamples=4000):
    """Pictures drawn with replacement, one resample after the other."""
    rng, names = np.random.default_rng(1), sorted(set(groups))
    members = {name: [i for i, group in enumerate(groups) if group == name] for name in names}
    values = []
    for _ in range(resamples):
        chosen = [i for name in rng.choice(names, len(names)) for i in members[name]]
        right = scores[chosen].sum()
        if right:
            values.append(1 - masked[chosen].sum() / right)
    return np.quantile(values, (0.025, 0.975))


def answers(n, seed=0, rate=0.6, still=0.4):
    rng = np.random.default_rng(seed)
    scores = (rng.random(n) < rate).astype(float)
    return scores, scores * (rng.random(n) < still)


def test_intervals_are_those_of_a_naive_bootstrap():
    scores, masked = answers(200)
    groups = [str(i // 3) for i in range(200)]
    found = paired_bootstrap(scores, masked, groups)
    np.testing.assert_allclose(found, naive_interval(scores, masked, groups), atol=0.03)


def test_a_question_that_is_asked_twice_about_its_picture_tells_nothing_new():
    scores, masked = answers(60)
    once = paired_bootstrap(scores, masked, range(60))
    twice = paired_bootstrap(np.tile(scores, 2), np.tile(masked, 2), [*range(60), *range(60)])
    assert twice == pytest.approx(once)
    alone = paired_bootstrap(np.tile(scores, 2), np.tile(masked, 2))
    assert alone[1] - alone[0] < 0.8 * (once[1] - once[0])


def test_few_pictures_are_enumerated():
    """Of two pictures, (1, 0) and (1, 1), four resamples: reliance 1, .5, .5, 0."""
    assert paired_bootstrap([1, 1], [0, 1], confidence=0.5) == (0.375, 0.625)
    assert paired_bootstrap([], []) is None
    assert paired_bootstrap([0, 0], [0, 0]) is None
    with pytest.raises(ValueError, match="lists of 2, 1 scores"):
        paired_bootstrap([1, 1], [1])
    with pytest.raises(ValueError, match="2 scores, but 1 groups"):
        paired_bootstrap([1, 1], [1, 0], ["a"])


def test_mcnemars_midp_against_scipy():
    rng = np.random.default_rng(0)
    for n in (1, 7, 40, 3000):
        a, b = rng.random(n) < 0.6, rng.random(n) < 0.5
        only_a, only_b = (a & ~b).sum(), (b & ~a).sum()
        k, total = min(only_a, only_b), only_a + only_b
        expected = min(1.0, 2 * binom.cdf(k, total, 0.5) - binom.pmf(k, total, 0.5)) if total else 1.0
        assert mcnemar_midp(a, b) == pytest.approx(expected, rel=1e-6)
    assert mcnemar_midp([1, 0], [1, 0]) == 1.0


def test_a_true_difference_is_found():
    a, b = answers(400, still=0.8), answers(400, seed=1, still=0.2)
    assert reliance_permutation(a, b, permutations=2000) < 0.002
    assert reliance_permutation(a, a, permutations=200) == 1.0
    assert accuracy_permutation(a[0], a[0], permutations=200) == 1.0
    assert accuracy_permutation(a[0], a[1], permutations=2000) < 0.02


def test_swapped_pictures_are_counted_by_hand():
    """Of the 8 signs of three pictures' differences 2, 1 and 1, two give a sum as far from 0 as theirs."""
    a, b = np.array([1, 1, 1, 1.0]), np.zeros(4)
    assert accuracy_permutation(a, b, ["x", "x", "y", "z"], permutations=4000) == pytest.approx(0.25, abs=0.03)
    assert accuracy_permutation(a, b, permutations=4000) == pytest.approx(0.125, abs=0.03)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
