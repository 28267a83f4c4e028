"""Bootstrap confidence intervals: resample what was measured, and see how far a statistic moves."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "clustered_mean_interval"]

# Indices drawn at a time.
_CHUNK = 4_000_000


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    n: int,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile interval of a statistic of n units.

    Args:
        statistic: takes indices (R, n) of R resamples and returns their values (R,); NaN where it is undefined, which
            the interval leaves out.
        confidence: coverage of the interval.

    Returns:
        (low, high); None if the statistic is defined in no resample.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(n, 1))
    values = [
        statistic(rng.integers(0, n, size=(min(step, resamples - start), n))) for start in range(0, resamples, step)
    ]
    defined = np.concatenate(values) if values else np.empty(0)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, (tail, 1 - tail))
    return float(low), float(high)


def clustered_mean_interval(
    sums: NDArray[np.float64], counts: NDArray[np.float64], *, resamples: int = 2000
) -> list[float] | None:
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

    def mean(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        totals = counts[chosen].sum(axis=1)
        return np.divide(sums[chosen].sum(axis=1), totals, out=np.full(len(totals), np.nan), where=totals > 0)

    interval = bootstrap_interval(mean, len(counts), resamples=resamples)
    return interval and list(interval)
