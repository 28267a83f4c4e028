"""Bootstrap confidence intervals: resample clusters of what was measured, and see how far a statistic moves.

Shapes: N values, C clusters of them, K columns, R resamples.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivl_hf.masks import FloatArray

__all__ = [
    "Groups",
    "cluster_sums",
    "clustered_interval",
    "clustered_mean_interval",
    "clustered_wilson_interval",
    "ratio",
    "sums_and_counts",
]

Groups = Sequence[object] | NDArray[Any]
"""(N,) what each value belongs to; equal ones, as texts, are one group."""

# Clusters of which every resample is looked at: 6^6 of them.
_EXACT_CLUSTERS = 6
_MOST_RESAMPLES = 10_000_000
# Numbers drawn at a time.
_CHUNK = 4_000_000


def clustered_interval(
    statistic: Callable[[FloatArray], FloatArray],
    values: FloatArray,
    groups: Groups | None = None,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile interval of a statistic of sums, under resampling of clusters.

    Args:
        statistic: of the sums of K columns: (R, K) -> (R,); NaN where it is undefined, which the interval leaves out.
        values: (N, K).
        groups: (N,) the cluster of each row, such as an image; by default each is alone. Of up to six clusters, all
            resamples are enumerated.
        resamples: R.
        confidence: coverage of the interval.
        seed: of the resampling.

    Returns:
        (low, high); None without values, or where the statistic is defined in no resample.

    Raises:
        ValueError: another number of groups than of values, or resamples or a confidence that cannot be.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if not 0 < resamples <= _MOST_RESAMPLES:
        raise ValueError(f"resamples must be from 1 to {_MOST_RESAMPLES:,}, got {resamples:,}")
    sums = cluster_sums(values, groups)
    if not len(sums):
        return None
    if len(sums) <= _EXACT_CLUSTERS:
        totals = sums[np.array(list(product(range(len(sums)), repeat=len(sums))))].sum(axis=1)
    else:
        # Clusters of equal sums are exchangeable: how often each kind is drawn says everything.
        kinds, multiplicity = np.unique(sums, axis=0, return_counts=True)
        rng, totals = np.random.default_rng(seed), np.empty((resamples, values.shape[1]))
        step = max(1, _CHUNK // len(kinds))
        for start in range(0, resamples, step):
            stop = min(start + step, resamples)
            totals[start:stop] = rng.multinomial(len(sums), multiplicity / len(sums), size=stop - start) @ kinds
    found = statistic(totals)
    defined = found[~np.isnan(found)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def clustered_mean_interval(sums: FloatArray, counts: FloatArray, *, resamples: int = 10_000) -> list[float] | None:
    """Return the 95% interval of a mean over all values, where the values of one cluster are not independent.

    Args:
        sums: (C,) the sum of each cluster's values; a cluster is an image, or a sample.
        counts: (C,) how many values each cluster has; may be 0.
        resamples: number of resamples of the clusters.

    Returns:
        [low, high]; None with fewer than two clusters.
    """
    if len(counts) < 2:
        return None

    values = np.stack([sums, counts], axis=1)
    interval = clustered_interval(lambda totals: ratio(totals[:, 0], totals[:, 1]), values, resamples=resamples)
    return interval and list(interval)


def clustered_wilson_interval(successes: FloatArray, counts: FloatArray) -> list[float]:
    """Return Wilson's 95% interval of a share at its effective sample size, p(1 - p) / variance of the clustered mean.

    With one value in every cluster it is Wilson's own.

    Args:
        successes, counts: (C,) of each cluster, the values that count as a success, and all.
    """
    p, n = successes.sum() / counts.sum(), counts.sum()
    variance = ((successes - p * counts) ** 2).sum() / n**2
    # Without any variation the effective size is unknown: clusters are counted, not values.
    independent = min(p * (1 - p) / variance if variance else len(counts), n)
    z = 1.959964
    center = (p + z * z / (2 * independent)) / (1 + z * z / independent)
    half = z / (1 + z * z / independent) * np.sqrt(p * (1 - p) / independent + z * z / (4 * independent**2))
    return [float(max(0, center - half)), float(min(1, center + half))]


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return (R,) / (R,), NaN where the denominator is not positive: a statistic that is undefined there."""
    return np.divide(numerator, denominator, out=np.full(len(denominator), np.nan), where=denominator > 0)


def sums_and_counts(clusters: Iterable[Sequence[float]]) -> tuple[FloatArray, FloatArray]:
    """Return (C,) the sum of each cluster's values and (C,) how many it has."""
    listed = list(clusters)
    return np.array([sum(each) for each in listed], dtype=np.float64), np.array(list(map(len, listed)), np.float64)


def cluster_sums(values: FloatArray, groups: Groups | None) -> FloatArray:
    """Add up the rows of each cluster: (N, K) -> (C, K); raises as :func:`clustered_interval`."""
    if groups is None:
        return values
    if len(groups) != len(values):
        raise ValueError(f"{len(values)} scores, but {len(groups)} groups")
    # Numbers need not become texts, which is slow for a million.
    if not (isinstance(groups, np.ndarray) and groups.dtype.kind == "i"):
        groups = np.array([str(group) for group in groups])
    _, member = np.unique(groups, return_inverse=True)
    sums = np.zeros((int(member.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(sums, member, values)
    return sums
