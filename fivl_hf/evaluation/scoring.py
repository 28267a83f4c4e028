"""Exact-match scoring."""

from collections.abc import Sequence

__all__ = ["exact_match", "normalize_answer"]

# Stripped from either end; a regular expression would look at long runs of them again and again.
_EDGES = " .,!?;:\"'“”‘’`"


def normalize_answer(text: str) -> str:
    """Case folded, white space collapsed, quotes and ``. , ! ? ; :`` at either end removed: " Yes. " is "yes".

    Signs that carry meaning stay ("C++", "-5", "50%"); a text of nothing but punctuation stays as it is.
    """
    folded = " ".join(text.casefold().split())
    return folded.strip(_EDGES) or folded


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 when the prediction equals any reference after normalisation, else 0.0."""
    return float(normalize_answer(prediction) in {normalize_answer(reference) for reference in references})
