"""Measures of whether attention lies on the evidence: of any number of heads at once, against one mask.

Shapes: N visual tokens. A token that the mask covers by a share c counts as c of a token inside and 1 - c outside:
every measure but Spearman's and MSE is what it would be on the pixels, if each pixel had the attention of its token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike

from fivl_hf.masks import FloatArray

__all__ = [
    "IOU_THRESHOLDS",
    "LOWER_IS_BETTER",
    "MEASURES",
    "auroc",
    "average_precision",
    "chance",
    "iou_at",
    "mass_lift",
    "measured",
    "measured_together",
    "mse",
    "pointing_game",
    "spearman",
]

Values = ArrayLike | torch.Tensor


def spearman(attention: Values, coverage: Values) -> FloatArray:
    """Spearman's rank correlation of every attention row with one coverage, ties at their average rank.

    Equal to ``scipy.stats.spearmanr`` row by row. Of a binary mask on a share p of the tokens, and attention without
    ties, it is √(3p(1 - p)) · (2 AUROC - 1) / √(1 - 1/N²): the smaller the mask, the lower even a perfect head's.

    Args:
        attention: (..., N) attention of any number of heads to N visual tokens.
        coverage: (N,) how much of each token the mask covers, 0 to 1.

    Returns:
        (...) float64; NaN where a row or the coverage is constant or holds NaN: there is no correlation.

    Raises:
        ValueError: different numbers of tokens, or none.
    """
    return measured(attention, coverage, ["spearman"])["spearman"]


def auroc(attention: Values, coverage: Values) -> FloatArray:
    """Return the probability that a token inside the mask gets more attention than one outside, ties counted half.

    Equal to ``sklearn.metrics.roc_auc_score`` for a binary mask. Chance is 0.5 whatever the mask's size.

    Args, returns and errors are those of :func:`spearman`; NaN also where nothing, or everything, is covered.
    """
    return measured(attention, coverage, ["auroc"])["auroc"]


def average_precision(attention: Values, coverage: Values) -> FloatArray:
    """Return the area under the precision-recall steps, tokens of equal attention taken together.

    Equal to ``sklearn.metrics.average_precision_score`` for a binary mask. Chance is about the mean coverage.

    Args, returns and errors are those of :func:`auroc`.
    """
    return measured(attention, coverage, ["average_precision"])["average_precision"]


def pointing_game(attention: Values, coverage: Values) -> FloatArray:
    """Return how much of the token with the most attention is covered (Zhang et al., 2016); the mean of equal ones.

    Chance is the mean coverage.

    Args, returns and errors are those of :func:`auroc`.
    """
    return measured(attention, coverage, ["pointing_game"])["pointing_game"]


def mass_lift(attention: Values, coverage: Values) -> FloatArray:
    """Return the share of attention inside the mask over the mask's share of the tokens; chance is 1.

    Args, returns and errors are those of :func:`auroc`; NaN also where all attention is 0.
    """
    return measured(attention, coverage, ["mass_lift"])["mass_lift"]


def mse(attention: Values, coverage: Values) -> FloatArray:
    """Return the mean squared difference, attention and coverage scaled to a largest value of 1; 0 is best.

    Args, returns and errors are those of :func:`auroc`; NaN also where all attention is 0.
    """
    return measured(attention, coverage, ["mse"])["mse"]


def iou_at(attention: Values, coverage: Values, thresholds: Sequence[float]) -> FloatArray:
    """Return the IoU of the mask with the tokens that get at least a share of each row's largest attention.

    Args:
        attention, coverage: as in :func:`spearman`.
        thresholds: K shares; which of them to report is to be decided on other rows.

    Returns:
        (K, ...) float64; NaN only where a row or the coverage holds NaN, or all attention is 0.

    Raises:
        ValueError: as in :func:`spearman`.
    """
    rows, shape = _single(attention, coverage)
    return np.moveaxis(_iou(rows, thresholds)[0, 0].reshape(*shape, len(thresholds)), -1, 0)


def chance(name: str, coverage: Values) -> float | None:
    """Return the expected score of attention that is independent of the mask.

    Args:
        name: of ``MEASURES``, "iou" or "auroc_without_sinks".
        coverage: (N,) of tokens, or the mean coverage of each of N masks.

    Returns:
        None for MSE and IoU, which depend on the attention's own distribution, and without coverage where it matters.
    """
    covered = _array(coverage).cpu().numpy()
    share = float(np.mean(covered)) if covered.size else None
    return {
        **{"spearman": 0.0, "auroc": 0.5, "auroc_without_sinks": 0.5, "mass_lift": 1.0},
        **{"average_precision": share, "pointing_game": share, "mse": None, "iou": None},
    }[name]


def measured(attention: Values, coverage: Values, names: Sequence[str]) -> dict[str, FloatArray]:
    """Return several of ``MEASURES``, sorting the attention once.

    Args:
        attention, coverage: as in :func:`spearman`.
        names: of the measures.

    Returns:
        For each name (...) float64.

    Raises:
        ValueError: as in :func:`spearman`, or a measure that does not exist.
    """
    _require_measures(names)
    rows, shape = _single(attention, coverage)
    return {name: MEASURES[name](rows)[0, 0].reshape(shape) for name in names}


def measured_together(
    attention: torch.Tensor, coverage: torch.Tensor, names: Sequence[str], thresholds: Sequence[float] = ()
) -> dict[str, FloatArray]:
    """Return measures of several samples with the same number of visual tokens, each against several masks.

    Args:
        attention: (B, ..., N), sorted once for all masks.
        coverage: (B, M, N).
        names: of ``MEASURES``.
        thresholds: K of :func:`iou_at`, whose results are called "iou".

    Returns:
        For each name (B, M, ...) float64; for "iou" (B, M, ..., K).

    Raises:
        ValueError: shapes that do not agree, or a measure that does not exist.
    """
    _require_measures(names)
    if coverage.ndim != 3 or attention.shape[:1] != coverage.shape[:1] or attention.shape[-1] != coverage.shape[-1]:
        raise ValueError(
            f"attention (B, ..., N) and coverage (B, M, N) must agree, got {tuple(attention.shape)} and "
            f"{tuple(coverage.shape)}"
        )
    rows = _Rows(attention.flatten(1, -2), coverage.to(attention.device, torch.float64))
    shape = (*coverage.shape[:2], *attention.shape[1:-1])
    scores = {name: MEASURES[name](rows).reshape(shape) for name in names}
    if thresholds:
        scores["iou"] = _iou(rows, thresholds).reshape(*shape, len(thresholds))
    return scores


def _require_measures(names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in MEASURES]:
        raise ValueError(f"no measure {unknown[0]!r}; there are {', '.join(sorted(MEASURES))}")


def _single(attention: Values, coverage: Values) -> tuple["_Rows", tuple[int, ...]]:
    """Return one sample against one mask, and the shape of its results."""
    rows, column = _array(attention), _array(coverage)
    if rows.shape[-1:] != column.shape[-1:] or column.ndim != 1 or not len(column):
        raise ValueError(
            f"attention (..., N) and coverage (N,) must agree, got {tuple(rows.shape)} and {tuple(column.shape)}"
        )
    flat = rows.reshape(1, -1, rows.shape[-1])
    return _Rows(flat, column.to(rows.device, torch.float64)[None, None]), tuple(rows.shape[:-1])


def _array(values: Values) -> torch.Tensor:
    return values.detach() if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))


@dataclass(frozen=True)
class _Rows:
    """Attention rows (B, R, N) and coverages (B, M, N), sorted when it is needed; measures are (B, M, R)."""

    attention: torch.Tensor
    coverage: torch.Tensor

    @cached_property
    def order(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Values in ascending order and their places: (B, R, N) each."""
        ordered, order = self.attention.sort(dim=-1)
        return ordered, order

    @cached_property
    def ranks(self) -> torch.Tensor:
        """Average ranks minus their mean: (B, R, N)."""
        return _centred_ranks(*self.order)

    @cached_property
    def exact(self) -> torch.Tensor:
        """The attention in float64: (B, R, N)."""
        return self.attention.double()

    @cached_property
    def largest(self) -> torch.Tensor:
        """Each row's largest attention: (B, 1, R)."""
        return self.attention.amax(-1)[:, None]

    @cached_property
    def inside(self) -> torch.Tensor:
        """Sum of each mask's coverage: (B, M, 1)."""
        return self.coverage.sum(-1, keepdim=True)

    @cached_property
    def divided(self) -> torch.Tensor:
        """True where a mask covers something, but not everything: (B, M, 1)."""
        return (self.inside > 0) & (self.inside < self.coverage.shape[-1])

    def under_masks(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of the values (B, R, N) of all tokens, each weighed by its coverage: (B, M, R)."""
        return self.coverage @ values.mT

    def known(self, values: torch.Tensor, *conditions: torch.Tensor) -> FloatArray:
        """Set to NaN what NaN in the rows or a condition makes undefined."""
        known = ~self.attention.isnan().any(-1)[:, None] & ~self.coverage.isnan().any(-1, keepdim=True)
        for condition in conditions:
            known = known & condition
        return np.asarray(torch.where(known, values, torch.nan).cpu().numpy())


def _centred_ranks(ordered: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    first, last = _ties(ordered)
    ranks = (first + last).double() / 2 - (ordered.shape[-1] - 1) / 2
    return torch.empty_like(ranks).scatter_(-1, order, ranks)


def _ties(ordered: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for each of some sorted values, the first and the last place of its equals: (..., N) each."""
    n = ordered.shape[-1]
    index = torch.arange(n, device=ordered.device).expand(ordered.shape)
    edge = torch.ones_like(ordered[..., :1], dtype=torch.bool)
    differs = ordered[..., 1:] != ordered[..., :-1]
    first = torch.where(torch.cat([edge, differs], -1), index, 0).cummax(-1).values
    last = torch.where(torch.cat([differs, edge], -1), index, n - 1)
    return first, last.flip(-1).cummin(-1).values.flip(-1)


def _spearman(rows: _Rows) -> FloatArray:
    of_coverage = _centred_ranks(*rows.coverage.sort(dim=-1))
    scale = (rows.ranks.square().sum(-1)[:, None] * of_coverage.square().sum(-1, keepdim=True)).sqrt()
    return rows.known(of_coverage @ rows.ranks.mT / scale, scale > 0)


def _auroc(rows: _Rows) -> FloatArray:
    """With midranks, pairs of two tokens inside the mask cancel, also where it covers tokens by shares."""
    outside = rows.coverage.shape[-1] - rows.inside
    return rows.known(0.5 + rows.under_masks(rows.ranks) / (rows.inside * outside), rows.divided)


def _average_precision(rows: _Rows) -> FloatArray:
    ordered, order = (each.flip(-1) for each in rows.order)
    _, last = _ties(ordered)
    sums = []
    for mask in rows.coverage.unbind(1):
        inside = mask[:, None].expand(order.shape).gather(-1, order)
        precision = inside.cumsum(-1).gather(-1, last) / (last + 1)
        sums.append((precision * inside).sum(-1))
    return rows.known(torch.stack(sums, 1) / rows.inside, rows.divided)


def _pointing_game(rows: _Rows) -> FloatArray:
    most = (rows.attention == rows.largest.mT).double()
    return rows.known(rows.under_masks(most) / most.sum(-1)[:, None], rows.divided)


def _mass_lift(rows: _Rows) -> FloatArray:
    total = rows.exact.sum(-1)[:, None]
    covered = rows.inside / rows.coverage.shape[-1]
    return rows.known(rows.under_masks(rows.exact) / total / covered, rows.divided, total > 0)


def _mse(rows: _Rows) -> FloatArray:
    scaled = rows.exact / rows.largest.mT
    masks = rows.coverage / rows.coverage.amax(-1, keepdim=True)
    differences = torch.stack([(scaled - mask[:, None]).square().mean(-1) for mask in masks.unbind(1)], 1)
    return rows.known(differences, rows.divided, rows.largest > 0)


def _iou(rows: _Rows, thresholds: Sequence[float]) -> FloatArray:
    """(B, M, R, K)."""
    found = []
    for threshold in thresholds:
        chosen = (rows.attention >= threshold * rows.largest.mT).double()
        overlap = rows.under_masks(chosen)
        found.append(rows.known(overlap / (chosen.sum(-1)[:, None] + rows.inside - overlap), rows.largest > 0))
    return np.stack(found, axis=-1)


IOU_THRESHOLDS = (0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of a head's largest attention among which ``fivl explain`` chooses the one for its IoU, on other rows."""
LOWER_IS_BETTER = ("mse",)
MEASURES: Mapping[str, Callable[[_Rows], FloatArray]] = {
    "spearman": _spearman,
    "auroc": _auroc,
    "average_precision": _average_precision,
    "pointing_game": _pointing_game,
    "mass_lift": _mass_lift,
    "mse": _mse,
}
