"""Agreement between annotators beyond chance.

1 is full agreement, 0 what chance would give, negative less than that. Where everybody always gives the same answer,
chance agrees fully and the coefficient is not defined (None).

Sources: Cohen (1960); Fleiss (1971), here for any number of annotators per item; Krippendorff (2004).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["answer_counts", "cohen_kappa", "confusion", "fleiss_kappa", "krippendorff_alpha"]


def confusion(a: Sequence[str], b: Sequence[str], categories: Sequence[str]) -> list[list[int]]:
    """Count pairs of answers: a row for each of the first annotator's, a column for each of the second's."""
    pairs = list(zip(a, b, strict=True))
    return [[pairs.count((one, other)) for other in categories] for one in categories]


def answer_counts(answers: Iterable[Mapping[str, str]], categories: Sequence[str]) -> list[list[int]]:
    """Count how many annotators gave each of K answers to each of N items: (N, K).

    Args:
        answers: of each item, by annotator.
    """
    return [[list(each.values()).count(category) for category in categories] for each in answers]


def cohen_kappa(counts: ArrayLike) -> float | None:
    """Return Cohen's kappa of a table of (K, K) counts, such as :func:`confusion` gives; None without pairs."""
    table = np.asarray(counts, dtype=np.float64)
    total = table.sum()
    if not total:
        return None
    observed = np.trace(table) / total
    expected = float(table.sum(axis=0) @ table.sum(axis=1)) / total**2
    return _beyond_chance(observed, expected)


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Return Fleiss' kappa of (N, K) counts: how many annotators gave each of K answers to each of N items.

    Items of fewer than two annotators are left out. With different numbers of annotators, an item's agreement is
    the share of its pairs that agree, and every answer counts alike in how common the answers are.
    """
    table = np.asarray(counts, dtype=np.float64)
    raters = table.sum(axis=1)
    table, raters = table[raters > 1], raters[raters > 1]
    if not len(table):
        return None
    agreeing = ((table**2).sum(axis=1) - raters) / (raters * (raters - 1))
    common = table.sum(axis=0) / table.sum()
    return _beyond_chance(agreeing.mean(), float(common @ common))


def krippendorff_alpha(counts: ArrayLike) -> float | None:
    """Return Krippendorff's alpha for unordered answers, of (N, K) counts as :func:`fleiss_kappa` takes them.

    Raises:
        ImportError: the library is not installed.
    """
    try:
        import krippendorff
    except ImportError as error:
        raise ImportError("Krippendorff's alpha needs `pip install fivl-hf[ui]`") from error

    table = np.asarray(counts)
    table = table[table.sum(axis=1) > 1]
    if (table.sum(axis=0) > 0).sum() < 2:
        return None
    return float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal"))


def _beyond_chance(observed: float, expected: float) -> float | None:
    return None if np.isclose(expected, 1) else float((observed - expected) / (1 - expected))
