"""Is an answer right?"""

import re
from collections.abc import Sequence

__all__ = ["exact_match", "normalize_answer"]

_EDGES = re.compile(r"^[\s\W_]+|[\s\W_]+$")


def normalize_answer(text: str) -> str:
    """Case folded, white space collapsed, punctuation at either end removed: ``" Yes. "`` and ``"yes"`` are one."""
    return " ".join(_EDGES.sub("", text.casefold()).split())


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 when the prediction equals any reference after normalisation, else 0.0."""
    return float(normalize_answer(prediction) in {normalize_answer(reference) for reference in references})
