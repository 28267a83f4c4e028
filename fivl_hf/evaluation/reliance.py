"""The Visual Reliance Score: how far accuracy falls when the evidence is blacked out (arXiv 2412.14672)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fivl_hf.bootstrap import Groups
from fivl_hf.evaluation.scorers import scorer as scorer_of
from fivl_hf.evaluation.statistics import paired_bootstrap

__all__ = ["reliance_of_answers", "visual_reliance_score"]


def visual_reliance_score(
    scores: ArrayLike,
    masked_scores: ArrayLike,
    *,
    groups: Groups | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """(accuracy − masked accuracy) / accuracy, with a paired bootstrap confidence interval.

    1 means that without the evidence every right answer is lost, 0 that nothing changes, negative that the model
    does better without it. Undefined (None, with a ``reason``) where nothing is right to begin with; resamples in
    which that happens are left out of the interval.

    Args:
        scores: (n,) score of each answer on the original image, 0 to 1.
        masked_scores: (n,) the same questions with the evidence removed, in the same order.
        groups: (n,) what questions are resampled together, such as the image's name: those about one image are alike.
        resamples: bootstrap resamples; each keeps the two scores of a question together.
        confidence: coverage of the interval.
        seed: of the resampling.

    Raises:
        ValueError: score lists of different lengths, or a score outside 0 to 1.
    """
    original, masked = (np.asarray(s, dtype=np.float64).reshape(-1) for s in (scores, masked_scores))
    if original.shape != masked.shape:
        raise ValueError(f"{len(original)} scores but {len(masked)} masked scores: give both for every question")
    if out := [float(value) for each in (original, masked) for value in each if not 0 <= value <= 1]:
        raise ValueError(f"scores must be from 0 to 1, got {out[0]}")
    n = len(original)
    result: dict[str, Any] = {
        "visual_reliance_score": None,
        "accuracy": float(original.mean()) if n else None,
        "masked_accuracy": float(masked.mean()) if n else None,
        "n": n,
        "confidence_interval": [None, None],
    }
    if not n or original.sum() == 0:
        result["reason"] = "no answer is right on the original images" if n else "there are no questions"
        return result
    result["visual_reliance_score"] = float(1 - masked.sum() / original.sum())
    interval = paired_bootstrap(original, masked, groups, resamples=resamples, confidence=confidence, seed=seed)
    if interval:
        result["confidence_interval"] = list(interval)
    return result


def reliance_of_answers(
    predictions: Sequence[str],
    masked_predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    scorer: str = "exact",
    **options: Any,
) -> dict[str, Any]:
    """Score answers and return their :func:`visual_reliance_score`.

    Args:
        scorer: see :func:`fivl_hf.evaluation.scorers.scorer`; answers that it cannot read are wrong.

    Returns:
        What :func:`visual_reliance_score` does, and how many answers the scorer could not read: ``unparsed``,
        ``masked_unparsed``.

    Raises:
        ValueError: lists of different lengths, or an unknown scorer.
    """
    score = scorer_of(scorer)
    lengths = {len(predictions), len(masked_predictions), len(references)}
    if len(lengths) > 1:
        raise ValueError(
            f"predictions ({len(predictions)}), masked_predictions ({len(masked_predictions)}) and references "
            f"({len(references)}) must have one entry per question"
        )
    original, masked = (
        [score(prediction, right) for prediction, right in zip(texts, references, strict=True)]
        for texts in (predictions, masked_predictions)
    )
    unparsed = {"unparsed": original.count(None), "masked_unparsed": masked.count(None)}
    scores = [[value or 0.0 for value in each] for each in (original, masked)]
    return {**visual_reliance_score(*scores, **options), **unparsed}
