"""Vision Modeling targets and loss: pure functions over arrays and tensors.

Shapes: M key expressions, P visual tokens, B batch, T tokens.
"""

from dataclasses import dataclass
from math import cos, pi
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivl_hf.supervision import LARGEST_MASK

if TYPE_CHECKING:
    import torch

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "NO_NOUN",
    "OUTSIDE",
    "OVERLAPPED",
    "TOO_LARGE",
    "UNASSIGNED",
    "TaskCounts",
    "joint_loss",
    "merge_targets",
    "patch_owners",
    "require_share",
    "scheduled_weight",
    "unlabelled_reasons",
    "values_of_owners",
    "vision_loss_weights",
    "vision_modeling_loss",
    "weighted_mean",
]

IGNORE = -100
# In place of an expression's number: negative, so that they are places from the end of a table of values.
UNASSIGNED, BACKGROUND = -1, -2
# Why an expression labels no patch, in the order in which it is looked at.
NO_NOUN, OUTSIDE, TOO_LARGE, OVERLAPPED = (
    "expressions without a noun that the tokenizer knows",
    "masks outside what the model sees",
    "masks over the limit",
    "masks under those of other expressions",
)


def patch_owners(
    coverage: ArrayLike,
    has_keyword: ArrayLike,
    *,
    visible: ArrayLike | None = None,
    totals: ArrayLike | None = None,
    max_coverage: float = LARGEST_MASK,
    min_coverage: float = 0.0,
    overlap: str = "first",
) -> NDArray[np.intp]:
    """Return which expression each visual token learns from (arXiv 2412.14672).

    Args:
        coverage: (M, P) mean mask value under each visual token, 0 to 1.
        has_keyword: (M,) bool, the expressions that have a keyword.
        visible: (M, P) bool, the tokens that see the expression's image; all of them if not given.
        totals: (M,) the number of tokens over which the share that a mask covers is taken; the visible ones if not
            given. The paper takes all tokens of the image, those of its padding included.
        max_coverage: masks covering more than this share of their tokens supervise nothing.
        min_coverage: a token is covered when its coverage is greater than this.
        overlap: who keeps a token that several expressions claim: the ``"first"`` of them, as in the paper, or
            the one whose mask covers the fewest tokens (``"smallest"``).

    Returns:
        (P,) the expression's number; ``BACKGROUND`` for a token that sees an image with expressions and is covered by
        no mask of theirs, including those that supervise nothing; ``UNASSIGNED`` for all others.
    """
    cover = np.asarray(coverage, dtype=np.float64)
    if not len(cover):
        return np.full(cover.shape[-1], UNASSIGNED, dtype=np.intp)
    seen = np.ones(cover.shape, dtype=bool) if visible is None else np.asarray(visible, dtype=bool)
    covered, areas, limits = _areas_and_limits(cover, seen, totals, max_coverage, min_coverage)
    claims = covered & ((areas <= limits) & np.asarray(has_keyword, dtype=bool))[:, None]
    # A stable sort, so that of equal masks the first still wins.
    order = np.argsort(areas, kind="stable") if overlap == "smallest" else np.arange(len(cover))
    others = np.where(seen.any(axis=0) & ~covered.any(axis=0), BACKGROUND, UNASSIGNED)
    # argmax finds the first expression in that order that claims the token.
    return np.where(claims.any(axis=0), order[claims[order].argmax(axis=0)], others)


def _areas_and_limits(
    cover: NDArray[np.float64],
    seen: NDArray[np.bool_],
    totals: ArrayLike | None,
    max_coverage: float,
    min_coverage: float,
) -> tuple[NDArray[np.bool_], NDArray[np.intp], NDArray[np.float64]]:
    """Return which tokens each mask covers (M, P), how many they are (M,), and how many they may be (M,)."""
    covered = (cover > min_coverage) & seen
    limits = max_coverage * (seen.sum(axis=1) if totals is None else np.asarray(totals))
    return covered, covered.sum(axis=1), limits


def unlabelled_reasons(
    coverage: ArrayLike,
    has_keyword: ArrayLike,
    owners: NDArray[np.intp],
    *,
    visible: ArrayLike,
    totals: ArrayLike | None = None,
    max_coverage: float,
    min_coverage: float,
) -> list[str]:
    """Say of each expression that labels no visual token why it does not.

    Args:
        owners: (P,) as :func:`patch_owners` gives them for the same arguments.
    """
    reasons = []
    seen = np.asarray(visible, dtype=bool)
    _, areas, limits = _areas_and_limits(np.asarray(coverage), seen, totals, max_coverage, min_coverage)
    for number, (area, limit, named) in enumerate(zip(areas, limits, np.asarray(has_keyword, dtype=bool), strict=True)):
        if not named:
            reasons.append(NO_NOUN)
        elif not area:
            reasons.append(OUTSIDE)
        elif area > limit:
            reasons.append(TOO_LARGE)
        elif not (owners == number).any():
            reasons.append(OVERLAPPED)
    return reasons


def values_of_owners(owners: NDArray[np.intp], by_expression: ArrayLike, background: Any, nothing: Any) -> NDArray[Any]:
    """Look up each visual token's owner: (P,) owners and (M,) values -> (P,), two values for tokens without one."""
    # UNASSIGNED and BACKGROUND are -1 and -2: as indices they count from the end, where the two values are put.
    return np.append(np.asarray(by_expression), [background, nothing])[owners]


def require_share(name: str, value: object) -> float:
    """Check that an option is a number from 0 to 1, and return it as a float.

    Raises:
        ValueError: naming the option, if it is not.
    """
    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value!r}")
    return float(value)


def merge_targets(labels: "torch.Tensor", vision_labels: "torch.Tensor") -> "torch.Tensor":
    """Both tasks' targets in one tensor for one fused pass.

    Args:
        labels: (B, T) next-token labels, unshifted, -100 where ignored.
        vision_labels: (B, T) keyword ids at image positions, -100 elsewhere.

    Returns:
        (B, T) targets per position: the keyword at labelled image positions, the next token's label elsewhere. Where
        both want a position the keyword has it.
    """
    import torch

    return torch.where(vision_labels != IGNORE, vision_labels, _next_token_labels(labels))


def _next_token_labels(labels: "torch.Tensor") -> "torch.Tensor":
    """(B, T) what each position is to predict: the label of the next one."""
    import torch

    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)


@dataclass(frozen=True)
class TaskCounts:
    """The number of targets of each task in an optimizer step, over all its micro-batches and processes.

    Where keywords are weighted, ``vision`` is the sum of the weights.
    """

    text: "int | torch.Tensor"
    vision: "int | torch.Tensor"


def scheduled_weight(weight: float, step: int, steps: int, schedule: str = "constant", warmup_steps: int = 0) -> float:
    """λ at an optimizer step: a linear rise from 0 over the warm-up, then a schedule named as learning rates' are.

    Args:
        weight: the full λ.
        step: optimizer steps done.
        steps: of the whole training.
        warmup_steps: optimizer steps of the rise.
        schedule: ``"constant"``, or down to 0 at the end: ``"linear"`` or ``"cosine"``.
    """
    if step < warmup_steps:
        return weight * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return weight * {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + cos(pi * progress)) / 2}[schedule]


def vision_loss_weights(
    counts: TaskCounts, vision_loss_weight: float
) -> "tuple[float | torch.Tensor, float | torch.Tensor]":
    """Return the weights of the language and the vision loss: 1 − λ and λ, but 1 for a task that is the only one.

    With λ = 0 the vision loss weighs nothing there, either.

    Args:
        counts: numbers, or tensors of any one shape, which the weights then have.
    """
    import torch

    text, vision = torch.as_tensor(counts.text), torch.as_tensor(counts.vision)
    weight = torch.where(vision > 0, torch.where(text > 0, vision_loss_weight, float(vision_loss_weight > 0)), 0.0)
    return 1.0 - weight, weight


def joint_loss(
    language_nll: "torch.Tensor",
    vision_nll: "torch.Tensor",
    counts: TaskCounts,
    vision_loss_weight: float = 0.1,
) -> "torch.Tensor":
    """(1 − λ) · Σ language nll / N_text + λ · Σ vision nll / N_vision (arXiv 2412.14672).

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
    language = weighted_mean(language_nll, torch.as_tensor(counts.text))
    vision = weighted_mean(vision_nll, torch.as_tensor(counts.vision))
    return language_weight * language + vision_weight * vision


def vision_modeling_loss(
    logits: "torch.Tensor",
    labels: "torch.Tensor",
    vision_labels: "torch.Tensor",
    *,
    vision_loss_weight: float = 0.1,
    vision_weights: "torch.Tensor | None" = None,
    counts: TaskCounts | None = None,
) -> "torch.Tensor":
    """Vision Modeling's loss from any model's logits, for a training loop of one's own.

    Needs the logits of every position; :class:`~fivl_hf.FiVLTrainer` computes the same without holding them.

    Args:
        logits: (B, T, V) of the whole sequence, unshifted, as ``model(**inputs).logits``.
        labels: (B, T) next-token labels, unshifted, -100 where ignored.
        vision_labels: (B, T) keyword ids at image positions, -100 elsewhere, as
            :class:`~fivl_hf.training.collator.FiVLCollator` makes them.
        vision_loss_weight: λ, 0 to 1.
        vision_weights: (B, T) weight of each keyword; 1 if not given.
        counts: targets of the whole optimizer step (vision: sum of weights), where it has several micro-batches; those
            of this batch if not given.

    Returns:
        A scalar, as :func:`joint_loss`.

    Raises:
        ValueError: λ outside 0 to 1, or tensors whose (B, T) differ.
    """
    import torch

    require_share("vision_loss_weight", vision_loss_weight)
    shapes = [tuple(tensor.shape) for tensor in (logits[..., 0], labels, vision_labels)]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"logits, labels and vision_labels must agree in (B, T), got {shapes}: logits of every position"
        )

    # Where both tasks want a position the keyword has it, as in merge_targets.
    text_labels = _next_token_labels(labels).masked_fill(vision_labels != IGNORE, IGNORE)
    text, vision = (_target_nll(logits, targets) for targets in (text_labels, vision_labels))
    found = torch.as_tensor(vision.numel(), device=vision.device)
    if vision_weights is not None:
        weights = vision_weights[vision_labels != IGNORE]
        vision, found = vision * weights, weights.sum()
    return joint_loss(text, vision, counts or TaskCounts(text.numel(), found), vision_loss_weight)


def _target_nll(logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Return negative log-likelihood of every target that is not -100, in float32: (B, T, V), (B, T) -> (targets,)."""
    import torch

    wanted = targets != IGNORE
    return torch.nn.functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="none")


def weighted_mean(weighted: "torch.Tensor", total: "torch.Tensor") -> "torch.Tensor":
    """Divide the sum of weighted values by the scalar sum of all weights; 0, with gradients, without weights."""
    return weighted.sum() / total.where(total > 0, 1)
