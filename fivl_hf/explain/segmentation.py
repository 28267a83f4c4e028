"""Segmentation from the vision logits: the argmax at each image position, patches grouped by predicted token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "SegmentScore",
    "mean_segmentation",
    "prompted_segmentation_scores",
    "segment_iou",
    "segment_score",
    "segmentation_scores",
    "token_iou",
]


def token_iou(predicted: ArrayLike, reference: ArrayLike, keyword_id: int) -> float:
    """IoU of the visual tokens that predict a keyword with those that its mask covers.

    Args:
        predicted: (N,) predicted token id per visual token.
        reference: (N,) 0/1 or coverage; above 0 the expression's mask covers the token.
        keyword_id: the keyword's token id.

    Returns:
        1 for the same tokens, 0 for none in common (also when the keyword is nowhere predicted).
    """
    return segment_iou(np.asarray(predicted) == keyword_id, np.asarray(reference) > 0)


def segment_iou(segment: ArrayLike, covered: ArrayLike) -> float:
    """Return the IoU of two sets of visual tokens, (N,) bool each: 1 for the same, 0 for none in common or two empty
    sets."""
    chosen, truth = np.asarray(segment, dtype=bool), np.asarray(covered, dtype=bool)
    either = (chosen | truth).sum()
    return float((chosen & truth).sum() / either) if either else 0.0


def segmentation_scores(
    predicted: Sequence[ArrayLike], references: Sequence[ArrayLike], keyword_ids: Sequence[int]
) -> dict[str, Any]:
    """Measure segmentation over samples, one key expression each (arXiv 2412.14672).

    Args:
        predicted: for each sample, (N,) the token that each visual token predicts.
        references: for each sample, (N,) the mask's coverage of each visual token.
        keyword_ids: the token of each sample's keyword.

    Returns:
        ``iou`` (mean; None without samples), ``n``, ``keyword_predicted`` (share of samples whose keyword is predicted
        anywhere), ``tokens_per_sample`` (mean number of different tokens predicted). Samples whose mask covers no
        token cannot be right or wrong and are counted in ``skipped``.

    Raises:
        ValueError: lists of different lengths, or a sample whose two lists differ in length.
    """
    if not len(predicted) == len(references) == len(keyword_ids):
        raise ValueError(
            f"one entry per sample in each: got {len(predicted)} predictions, {len(references)} references, "
            f"{len(keyword_ids)} keyword_ids"
        )
    scores = []
    for i, (tokens, reference, keyword) in enumerate(zip(predicted, references, keyword_ids, strict=True)):
        if len(np.asarray(tokens)) != len(np.asarray(reference)):
            raise ValueError(f"sample {i}: one prediction and one reference per visual token are needed")
        scores.append(segment_score(tokens, reference, keyword))
    return mean_segmentation(scores)


def prompted_segmentation_scores(
    predicted: Sequence[ArrayLike], references: Sequence[Sequence[ArrayLike]], prompted_ids: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Measure segmentation against a detector that was prompted with the predicted tokens (arXiv 2412.14672).

    Args:
        predicted: for each sample, (N,) the token that each visual token predicts.
        references: for each sample and each of its prompted tokens, (N,) the coverage of the mask detected for it; an
            empty list without a detection.
        prompted_ids: for each sample, the tokens that the detector was prompted with.

    Returns:
        ``iou`` (mean over the prompted tokens with a detection; None without any), ``n`` (how many those are),
        ``share_found`` (of all prompted tokens; None without any), ``tokens_per_sample`` (mean number of different
        tokens predicted).

    Raises:
        ValueError: lists of different lengths, or a mask with another number of tokens than its sample.
    """
    if not len(predicted) == len(references) == len(prompted_ids):
        raise ValueError(
            f"one entry per sample in each: got {len(predicted)} predictions, {len(references)} references, "
            f"{len(prompted_ids)} prompted_ids"
        )
    ious = []
    for i, (tokens, masks, ids) in enumerate(zip(predicted, references, prompted_ids, strict=True)):
        if len(masks) != len(ids):
            raise ValueError(f"sample {i}: {len(ids)} prompted tokens, but {len(masks)} masks")
        for mask, token in zip(masks, ids, strict=True):
            if len(np.asarray(mask)) not in (0, len(np.asarray(tokens))):
                raise ValueError(f"sample {i}: one prediction and one value of a mask per visual token are needed")
            if len(np.asarray(mask)):
                ious.append(token_iou(tokens, mask, token))
    prompted = sum(map(len, prompted_ids))
    different = [len(np.unique(tokens)) for tokens in predicted]
    return {
        "iou": float(np.mean(ious)) if ious else None,
        "n": len(ious),
        "share_found": len(ious) / prompted if prompted else None,
        "tokens_per_sample": float(np.mean(different)) if different else None,
    }


@dataclass(frozen=True)
class SegmentScore:
    """Segmentation of one sample: IoU, whether its keyword is predicted anywhere, how many different tokens are."""

    iou: float
    keyword_predicted: bool
    different_tokens: int


def segment_score(predicted: ArrayLike, reference: ArrayLike, keyword_id: int) -> SegmentScore | None:
    """Score one sample: predicted token ids (N,) against the mask's coverage (N,), as :func:`token_iou` does.

    Returns:
        None if the mask covers no token.
    """
    if not np.any(np.asarray(reference) > 0):
        return None
    tokens = np.asarray(predicted)
    return SegmentScore(
        token_iou(tokens, reference, keyword_id), bool((tokens == keyword_id).any()), len(np.unique(tokens))
    )


def mean_segmentation(scores: Sequence[SegmentScore | None]) -> dict[str, Any]:
    """Return the means that :func:`segmentation_scores` describes."""
    found = [score for score in scores if score]
    return {
        "iou": float(np.mean([score.iou for score in found])) if found else None,
        "n": len(found),
        "keyword_predicted": float(np.mean([score.keyword_predicted for score in found])) if found else None,
        "tokens_per_sample": float(np.mean([score.different_tokens for score in found])) if found else None,
        "skipped": len(scores) - len(found),
    }
