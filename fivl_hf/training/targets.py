"""Vision Modeling targets and loss: pure functions over arrays and tensors.

Shapes: M key expressions, P visual tokens, B batch, T tokens.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

__all__ = [
    "IGNORE",
    "TaskCounts",
    "merge_targets",
    "vision_loss_weights",
    "vision_modeling_loss",
    "vision_targets",
]

IGNORE = -100


def vision_targets(
    coverage: ArrayLike,
    keyword_ids: ArrayLike,
    *,
    visible: ArrayLike | None = None,
    max_coverage: float = 0.3,
    min_coverage: float = 0.0,
    overlap: str = "first",
) -> NDArray[np.int64]:
    """The keyword each visual token is to predict (PAPER.md section 2).

    Args:
        coverage: (M, P) mean mask value under each visual token, 0 to 1.
        keyword_ids: (M,) token id of each expression's keyword; -100 for an expression without one.
        visible: (M, P) bool, the tokens that see the expression's image; all of them if not given. The share that a
            mask covers is taken over these.
        max_coverage: masks covering more than this share of their visible tokens supervise nothing.
        min_coverage: a token is covered when its coverage is greater than this.
        overlap: who keeps a token that several expressions claim: the ``"first"`` of them, as in the paper, or
            the one whose mask covers the fewest tokens (``"smallest"``).

    Returns:
        (P,) int64 token ids, -100 where nothing is to be predicted.
    """
    cover = np.asarray(coverage, dtype=np.float64)
    ids = np.asarray(keyword_ids, dtype=np.int64)
    if not len(ids):
        return np.full(cover.shape[-1], IGNORE, dtype=np.int64)
    seen = np.ones(cover.shape, dtype=bool) if visible is None else np.asarray(visible, dtype=bool)
    covered = (cover > min_coverage) & seen
    areas = covered.sum(axis=1)
    claims = covered & ((areas <= max_coverage * seen.sum(axis=1)) & (ids != IGNORE))[:, None]
    order = np.argsort(areas, kind="stable") if overlap == "smallest" else np.arange(len(ids))
    winner = order[claims[order].argmax(axis=0)]
    return np.where(claims.any(axis=0), ids[winner], IGNORE)


def merge_targets(labels: "torch.Tensor", vision_labels: "torch.Tensor") -> "torch.Tensor":
    """Both tasks' targets in one tensor for one fused pass (DESIGN.md, "One forward pass").

    Args:
        labels: (B, T) next-token labels, unshifted, -100 where ignored.
        vision_labels: (B, T) keyword ids at image positions, -100 elsewhere.

    Returns:
        (B, T) targets per position: the keyword at labelled image positions, the next token's label elsewhere. Where
        both want a position the keyword has it.
    """
    import torch

    shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)
    return torch.where(vision_labels != IGNORE, vision_labels, shifted)


@dataclass(frozen=True)
class TaskCounts:
    """How many targets of each task an optimizer step has, over all its micro-batches and processes."""

    text: "int | torch.Tensor"
    vision: "int | torch.Tensor"


def vision_loss_weights(
    counts: TaskCounts, vision_loss_weight: float
) -> "tuple[float | torch.Tensor, float | torch.Tensor]":
    """Weights of the language and the vision loss: 1 − λ and λ, but 1 for a task that has the step to itself."""
    import torch

    text, vision = torch.as_tensor(counts.text), torch.as_tensor(counts.vision)
    weight = torch.where(vision > 0, torch.where(text > 0, vision_loss_weight, 1.0), 0.0)
    return 1.0 - weight, weight


def vision_modeling_loss(
    language_nll: "torch.Tensor",
    vision_nll: "torch.Tensor",
    counts: TaskCounts,
    vision_loss_weight: float = 0.1,
) -> "torch.Tensor":
    """(1 − λ) · Σ language nll / N_text + λ · Σ vision nll / N_vision (PAPER.md section 2, DESIGN.md).

    Args:
        language_nll: negative log-likelihoods of the text targets, any shape, 0 where ignored; summed.
        vision_nll: the same for the image positions' keywords.
        counts: the targets over the whole optimizer step, so that micro-batches add up.
        vision_loss_weight: λ, 0 to 1.

    Returns:
        A scalar. A task without targets leaves the other's loss at weight 1; without any target it is 0, with
        gradients.
    """
    import torch

    language_weight, vision_weight = vision_loss_weights(counts, vision_loss_weight)
    language = language_nll.sum() / torch.as_tensor(counts.text).clamp(min=1)
    vision = vision_nll.sum() / torch.as_tensor(counts.vision).clamp(min=1)
    return language_weight * language + vision_weight * vision
