"""Segmentation from the vision logits: the argmax at each image position, patches grouped by predicted token."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["segmentation_scores", "token_iou"]


def token_iou(predicted: ArrayLike, reference: ArrayLike, keyword_id: int) -> float:
    """IoU of the visual tokens that predict a keyword with those that its mask covers.

    Args:
        predicted: (N,) predicted token id per visual token.
        reference: (N,) 0/1 or coverage; above 0 the expression's mask covers the token.
        keyword_id: the keyword's token id.

    Returns:
        1 for the same tokens, 0 for none in common (also when the keyword is nowhere predicted).
    """
    chosen, truth = np.asarray(predicted) == keyword_id, np.asarray(reference) > 0
    either = (chosen | truth).sum()
    return float((chosen & truth).sum() / either) if either else 0.0


def segmentation_scores(
    predicted: Sequence[ArrayLike], references: Sequence[ArrayLike], keyword_ids: Sequence[int]
) -> dict[str, Any]:
    """Segmentation over samples, one key expression each (arXiv 2412.14672).

    Returns:
        ``iou`` (mean; None without samples), ``n``, ``detected`` (share of samples whose keyword is predicted
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
    ious, detected, different, skipped = [], [], [], 0
    for i, (tokens, reference, keyword) in enumerate(zip(predicted, references, keyword_ids, strict=True)):
        if len(np.asarray(tokens)) != len(np.asarray(reference)):
            raise ValueError(f"sample {i}: one prediction and one reference per visual token are needed")
        if not np.any(np.asarray(reference) > 0):
            skipped += 1
            continue
        ious.append(token_iou(tokens, reference, keyword))
        detected.append(keyword in np.asarray(tokens))
        different.append(len(np.unique(tokens)))
    return {
        "iou": float(np.mean(ious)) if ious else None,
        "n": len(ious),
        "detected": float(np.mean(detected)) if ious else None,
        "tokens_per_sample": float(np.mean(different)) if ious else None,
        "skipped": skipped,
    }
