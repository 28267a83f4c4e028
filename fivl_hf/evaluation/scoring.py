"""Is an answer right?"""

import re
from collections.abc import Sequence

__all__ = ["exact_match", "normalize_answer"]

_PUNCTUATION = r"[\s.,!?;:\"'“”‘’`]+"
_EDGES = re.compile(f"^{_PUNCTUATION}|{_PUNCTUATION}$")


def normalize_answer(text: str) -> str:
    """Case folded, white space collapsed, quotes and ``. , ! ? ; :`` at either end removed: " Yes. " is "yes".

    Signs that carry meaning stay ("C++", "-5", "50%"); a text of nothing but punctuation stays as it is.
    """
    folded = " ".join(text.casefold().split())
    return _EDGES.sub("", folded) or folded


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 when the prediction equals any reference after normalisation, else 0.0."""
    return float(normalize_answer(prediction) in {normalize_answer(reference) for reference in references})
