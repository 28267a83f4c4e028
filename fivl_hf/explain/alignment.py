"""Head alignment: does a head look where the evidence is? (arXiv 2412.14672)

Shapes: L layers, H heads, N visual tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivl_hf.explain.measures import measured
from fivl_hf.masks import FloatArray

__all__ = ["AlignmentMap", "align", "as_lists", "summary", "top_heads"]


def top_heads(alignment: ArrayLike, count: int = 5) -> list[dict[str, Any]]:
    """Return the best-aligned heads of an (L, H) map, best first: ``{"layer", "head", "score"}``, counted from 0."""
    scores = np.asarray(alignment, dtype=np.float64)
    order = [i for i in np.argsort(-scores, axis=None, kind="stable") if np.isfinite(scores.flat[i])]
    places = [np.unravel_index(i, scores.shape) for i in order[:count]]
    return [{"layer": int(i), "head": int(j), "score": float(scores[i, j])} for i, j in places]


@dataclass
class AlignmentMap:
    """The mean over samples of each head's correlation.

    A sample without correlation at some head (constant attention) does not count for that head; one whose coverage is
    constant counts for none.
    """

    total: FloatArray | None = None
    counts: NDArray[np.int64] | None = None
    n: int = 0

    def add(self, scores: FloatArray) -> None:
        """Add one sample's (L, H) correlations; raises ValueError for another number of layers or heads."""
        if self.total is None or self.counts is None:
            self.total, self.counts = np.zeros(scores.shape), np.zeros(scores.shape, dtype=np.int64)
        if scores.shape != self.total.shape:
            raise ValueError(f"a sample of {scores.shape} layers x heads among samples of {self.total.shape}")
        self.total += np.nan_to_num(scores)
        self.counts += np.isfinite(scores)
        self.n += bool(np.isfinite(scores).any())

    def mean(self) -> FloatArray:
        """(L, H) mean correlations; NaN for a head no sample counts for; (0, 0) without samples."""
        if self.total is None or self.counts is None:
            return np.zeros((0, 0))
        return np.divide(self.total, self.counts, out=np.full(self.total.shape, np.nan), where=self.counts > 0)


def align(
    samples: Iterable[tuple[ArrayLike, ArrayLike]], measures: Sequence[str] = ("spearman",)
) -> dict[str, AlignmentMap]:
    """Average measures of (attention (L, H, N), coverage (N,)) samples; N may differ between samples.

    Args:
        measures: of :data:`fivl_hf.explain.measures.MEASURES`.

    Raises:
        ValueError: naming the sample, for shapes that do not agree or an unknown measure.
    """
    results = {name: AlignmentMap() for name in measures}
    for number, (attention, cover) in enumerate(samples):
        try:
            for name, scores in measured(attention, cover, measures).items():
                results[name].add(scores)
        except (ValueError, TypeError) as error:
            raise ValueError(f"sample {number}: {error}") from error
    return results


def summary(result: AlignmentMap, count: int = 5, *, higher_is_better: bool = True) -> dict[str, Any]:
    """Return a map as plain numbers: ``alignment`` (layers x heads, null without samples), ``top_heads``, ``n``."""
    mean = result.mean()
    best = top_heads(mean if higher_is_better else -mean, count)
    if not higher_is_better:
        best = [{**head, "score": -head["score"]} for head in best]
    return {"alignment": as_lists(mean), "top_heads": best, "n": result.n}


def as_lists(scores: FloatArray) -> list[list[float | None]]:
    """Return an (L, H) map as lists, NaN as None, which JSON can hold."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in scores]
