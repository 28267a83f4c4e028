"""What was left out, and why, as text."""

from collections.abc import Mapping

__all__ = ["listed_reasons"]


def listed_reasons(counts: Mapping[str, int]) -> str:
    """Return counts by reason, the largest first: "1,204 × no image, 3 × too long"."""
    largest = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} × {reason}" for reason, count in largest if count)
