"""Which key expressions can supervise image patches, as far as a row tells it."""

from collections.abc import Sequence

__all__ = ["LARGEST_MASK", "unusable_because"]

# Share of the image; `vision_max_coverage` changes it for a training.
LARGEST_MASK = 0.3


def unusable_because(keywords: Sequence[str], coverage: float) -> str:
    """Return why Vision Modeling leaves an expression out with its default settings, or "" if it does not.

    Args:
        coverage: share of the image that the expression's mask covers.
    """
    if not keywords:
        return "no noun"
    return f"mask over {LARGEST_MASK:.0%} of the image" if coverage > LARGEST_MASK else ""
