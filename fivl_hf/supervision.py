"""Key expressions that can supervise image patches, and the reasons why others cannot."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

__all__ = [
    "COVERAGE_BANDS",
    "LARGEST_MASK",
    "coverage_band",
    "exclusion_reason",
    "listed_reasons",
    "target_counts",
    "usable_sentence",
]

# Share of the image; `vision_max_coverage` changes it for a training run.
LARGEST_MASK = 0.3
_EDGES = (0.05, 0.2, 0.5)
COVERAGE_BANDS = tuple(f"{low:.0%} to {high:.0%}" for low, high in pairwise((0, *_EDGES, 1)))
"""Groups of mask sizes, as shares of the image, by which quality is reported."""
_USABLE, _NO_TARGET = "usable", "rows without a usable expression"


def exclusion_reason(keywords: Sequence[str], coverage: float) -> str:
    """Return why Vision Modeling leaves an expression out with its default settings, or "" if it does not.

    Args:
        coverage: share of the image that the expression's mask covers.
    """
    if not keywords:
        return "no noun"
    return f"mask over {LARGEST_MASK:.0%} of the image" if coverage > LARGEST_MASK else ""


def coverage_band(coverage: float) -> int:
    """Return which of :data:`COVERAGE_BANDS` a share of the image is in; an edge belongs to the larger one."""
    return bisect_right(_EDGES, coverage)


def listed_reasons(counts: Mapping[str, int]) -> str:
    """Return counts of what was left out, the largest first: "1,204 × no image, 3 × too long"."""
    return ", ".join(f"{count:,} × {reason}" for reason, count in Counter(counts).most_common() if count)


def target_counts(reasons: Iterable[str]) -> Counter[str]:
    """Count a row's key expressions that can supervise patches, and those that cannot, by reason.

    Args:
        reasons: of each expression, as :func:`exclusion_reason` returns it.
    """
    counts = Counter(reason or _USABLE for reason in reasons)
    counts[_NO_TARGET] += not counts[_USABLE]
    return counts


def usable_sentence(targets: Mapping[str, int]) -> str:
    """Say how many key expressions can supervise patches; empty for benchmarks, which train nothing.

    Args:
        targets: added up over rows, as :func:`target_counts` gives them.
    """
    counts = Counter(targets)
    rows, usable = counts.pop(_NO_TARGET, 0), counts.pop(_USABLE, 0)
    total = usable + counts.total()
    if not total:
        return ""
    left_out = listed_reasons(counts)
    rest = f" (left out: {left_out}); {rows:,} {'row has' if rows == 1 else 'rows have'} none that can"
    return f"{usable:,} of {total:,} key expressions can supervise patches{rest if left_out else ''}"
