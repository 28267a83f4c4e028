"""Intervals and tests of scores: images are resampled, not questions, since those about one image are alike.

Shapes: N questions, G groups of them (images), R resamples.
"""

from collections.abc import Callable, Sequence
from math import lgamma, log
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fivl_hf.bootstrap import Groups, cluster_sums, clustered_interval, ratio
from fivl_hf.evaluation.scorers import RIGHT
from fivl_hf.masks import FloatArray

__all__ = [
    "accuracy_permutation",
    "holm",
    "mcnemar_midp",
    "paired_bootstrap",
    "rank_correlation",
    "reliance_permutation",
]

_CHUNK = 4_000_000
# Of fewer, every order is likely by chance.
_FEWEST_PAIRS = 4


def paired_bootstrap(
    scores: ArrayLike,
    masked_scores: ArrayLike,
    groups: Groups | None = None,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile interval of the Visual Reliance Score, (accuracy - masked accuracy) / accuracy.

    Args:
        scores, masked_scores: (N,) of each question on the original image and without the evidence.
        groups: (N,) what questions are resampled together, such as the picture's digest; by default each alone. Of up
            to six groups, all resamples are enumerated.
        resamples: R.
        confidence: coverage of the interval.
        seed: of the resampling.

    Returns:
        (low, high); None without questions, or where no resample has a right answer.

    Raises:
        ValueError: lists of different lengths.
    """
    pairs = np.stack(_same_length(scores, masked_scores), axis=1)
    return clustered_interval(_reliance, pairs, groups, resamples=resamples, confidence=confidence, seed=seed)


def mcnemar_midp(right_a: ArrayLike, right_b: ArrayLike) -> float:
    """Return McNemar's two-sided mid-p value that two models are right equally often, on the same N questions.

    The exact test is conservative, rejecting about 3.6% of true hypotheses at 5%; mid-p is close to 5%. Every question
    is treated as independent: if images have several, see :func:`accuracy_permutation`.

    Args:
        right_a, right_b: (N,) whether each model's answer is right.

    Raises:
        ValueError: lists of different lengths.
    """
    a, b = (values >= RIGHT for values in _same_length(right_a, right_b))
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, k = only_a + only_b, min(only_a, only_b)
    if not n:
        return 1.0
    logs = [lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * log(2) for i in range(k + 1)]
    probabilities = np.exp(logs)
    return float(min(1.0, 2 * probabilities.sum() - probabilities[-1]))


def reliance_permutation(
    scores_a: tuple[ArrayLike, ArrayLike],
    scores_b: tuple[ArrayLike, ArrayLike],
    groups: Groups | None = None,
    *,
    permutations: int = 10_000,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value that two models have one Visual Reliance Score, by swapping them image by image.

    Args:
        scores_a, scores_b: of each model, (N,) scores on the original images and (N,) without the evidence.
        groups: see :func:`paired_bootstrap`.
        permutations: R; p is at least 1 / (R + 1).

    Raises:
        ValueError: lists of different lengths.
    """
    sums = cluster_sums(np.stack(_same_length(*scores_a, *scores_b), axis=1), groups)
    return _permutation(sums[:, :2], sums[:, 2:], _difference, permutations, seed)


def accuracy_permutation(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    groups: Groups | None = None,
    *,
    permutations: int = 10_000,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value of two models having the same mean score, by swapping them image by image.

    McNemar's test treats every question as independent: with three questions about an image, whose answers are alike,
    it rejected 13% of true hypotheses at 5% in a simulation.

    Args:
        scores_a, scores_b: (N,) of each model.
        groups: see :func:`paired_bootstrap`.
        permutations: R; p is at least 1 / (R + 1).

    Raises:
        ValueError: lists of different lengths.
    """
    sums = cluster_sums(np.stack(_same_length(scores_a, scores_b), axis=1), groups)
    return _permutation(sums[:, :1], sums[:, 1:], lambda a, b: (a - b)[:, 0], permutations, seed)


def _permutation(
    a: FloatArray,
    b: FloatArray,
    difference: Callable[[FloatArray, FloatArray], FloatArray],
    permutations: int,
    seed: int,
) -> float:
    """Return the two-sided p-value of a difference, from the sums of K kinds of scores: (G, K) of each model."""
    observed = abs(difference(a.sum(axis=0, keepdims=True), b.sum(axis=0, keepdims=True))[0])
    rng, beyond = np.random.default_rng(seed), 0
    step = max(1, _CHUNK // max(len(a), 1))
    for start in range(0, permutations, step):
        swapped = rng.random((min(step, permutations - start), len(a))) < 0.5
        moved = swapped @ (b - a)
        differences = difference(a.sum(axis=0) + moved, b.sum(axis=0) - moved)
        beyond += int((np.abs(differences) >= observed - 1e-12).sum())
    return (1 + beyond) / (1 + permutations)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the given order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def rank_correlation(
    x: Sequence[float], y: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """Return Spearman's correlation of N pairs, such as models, with a percentile interval over resampled pairs.

    Returns:
        ``n``, ``value``, ``confidence_interval``; None with a ``reason`` for fewer than four pairs, or where all values
        of one kind are equal. Resamples in which it is undefined are left out.

    Raises:
        ValueError: lists of different lengths.
    """
    pairs = np.stack(_same_length(x, y), axis=1)
    n = len(pairs)
    undefined = {"n": n, "value": None, "confidence_interval": [None, None]}
    if n < _FEWEST_PAIRS:
        return {**undefined, "reason": f"fewer than {_FEWEST_PAIRS} models"}
    value = _spearman(pairs[None])[0]
    if np.isnan(value):
        return {**undefined, "reason": "all have one value"}
    drawn = pairs[np.random.default_rng(seed).integers(0, n, size=(resamples, n))]
    low, high = np.nanquantile(_spearman(drawn), (0.025, 0.975))
    return {"n": n, "value": float(value), "confidence_interval": [float(low), float(high)]}


def _spearman(pairs: FloatArray) -> FloatArray:
    """Return the correlation of ranks, of which equal values share the mean: (R, N, 2) -> (R,), NaN if undefined."""
    below = (pairs[:, :, None] > pairs[:, None]).sum(axis=2)
    equal = (pairs[:, :, None] == pairs[:, None]).sum(axis=2)
    ranks = below + (equal - 1) / 2
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    return ratio(centred.prod(axis=2).sum(axis=1), np.sqrt((centred**2).sum(axis=1).prod(axis=1)))


def _difference(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return VRS of a minus VRS of b: (R, 2) sums of scores each -> (R,); 0 where one is undefined."""
    return np.asarray(np.nan_to_num(_reliance(a) - _reliance(b)))


def _reliance(totals: FloatArray) -> FloatArray:
    """Return VRS of (R, 2) sums of scores, on the original images and without the evidence: (R,)."""
    return 1 - ratio(totals[:, 1], totals[:, 0])


def _same_length(*lists: ArrayLike) -> list[FloatArray]:
    arrays = [np.asarray(each, dtype=np.float64).reshape(-1) for each in lists]
    if len({len(each) for each in arrays}) > 1:
        raise ValueError(f"lists of {', '.join(str(len(each)) for each in arrays)} scores: give one for each question")
    return arrays
