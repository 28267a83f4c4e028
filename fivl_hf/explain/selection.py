"""Heads chosen on some images and reported on others, with intervals over images: the best of many is overrated.

Shapes: L layers, H heads, K thresholds, E expressions, R resamples.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivl_hf.explain.alignment import as_lists
from fivl_hf.explain.measures import IOU_THRESHOLDS, LOWER_IS_BETTER
from fivl_hf.masks import FloatArray

__all__ = ["TOO_FEW", "HeadSelection", "image_halves", "rows_by_half", "selection_by"]

TOO_FEW = "the rows are about too few images to choose heads on some and measure them on others"

_RESAMPLES = 500
# With fewer images, a bootstrap's interval is too narrow.
_FEW = 40
# Expressions that are added up at a time.
_BUFFERED = 64


def image_halves(images: Iterable[str], seed: int = 0) -> frozenset[str]:
    """Return half of the images, drawn at random: those that heads are chosen on.

    Args:
        images: digests (:func:`fivl_hf.explain.other_images.image_groups`), in any order.
    """
    ordered = sorted(set(images), key=lambda image: hashlib.sha256(f"{seed} {image}".encode()).digest())
    return frozenset(ordered[: len(ordered) // 2])


def rows_by_half(
    numbers: Iterable[int], groups: Sequence[str], choosing: Collection[str]
) -> tuple[list[int], list[int]]:
    """Return the numbers of the rows that heads are chosen on, and of those that they are measured on.

    Args:
        groups: digest of the images of every row (:func:`fivl_hf.explain.other_images.image_groups`).
        choosing: images that heads are chosen on (:func:`image_halves`).

    Raises:
        ValueError: one half is empty.
    """
    halves: dict[bool, list[int]] = {True: [], False: []}
    for number in numbers:
        halves[groups[number] in choosing].append(number)
    if not all(halves.values()):
        raise ValueError(TOO_FEW)
    return halves[True], halves[False]


class HeadSelection:
    """Scores of heads by one measure, of any number of expressions, in constant memory.

    Images are resampled by a Poisson bootstrap: in each resample, an image counts as often as a Poisson number says,
    which depends on its digest and the seed alone. So what comes out does not depend on the order of the rows.

    Args:
        choosing: images of the half that is called the first (:func:`image_halves`).
        higher_is_better: whether a head is chosen for its highest score.
        thresholds: of a measure that needs one: scores are (L, H, K), and a threshold is chosen with its head.
        resamples: R.
        seed: of the resampling.
    """

    def __init__(
        self,
        choosing: Collection[str],
        *,
        higher_is_better: bool = True,
        thresholds: Sequence[float] = (),
        resamples: int = _RESAMPLES,
        seed: int = 0,
    ) -> None:
        self._choosing, self._thresholds = choosing, tuple(thresholds)
        self._sign = 1.0 if higher_is_better else -1.0
        self._resamples, self._seed = resamples, seed
        self._waiting: tuple[list[Any], list[Any]] = ([], [])
        # (2 halves, 1 + R, scores and controls, L, H or L, H, K): the first is of all images once.
        self._sums: NDArray[np.float32] | None = None
        self._counts: NDArray[np.float32] | None = None
        self._n = 0
        self._images: tuple[set[str], set[str]] = (set(), set())

    def add(self, image: str, scores: FloatArray, control: FloatArray | None) -> None:
        """Add an expression's scores (L, H) or (L, H, K), and those with another image's mask, if there are any."""
        half = 0 if image in self._choosing else 1
        both = np.stack([scores, np.full_like(scores, np.nan) if control is None else control])
        self._n += 1
        self._images[half].add(image)
        self._waiting[half].append((image, both))
        if len(self._waiting[half]) == _BUFFERED:
            self._add_up(half)

    def _add_up(self, half: int) -> None:
        waiting = self._waiting[half]
        if not waiting:
            return
        maps = np.stack([both for _, both in waiting]).astype(np.float32)
        if self._sums is None or self._counts is None:
            shape = (2, 1 + self._resamples, *maps.shape[1:])
            self._sums, self._counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        weights = np.stack([_weights(image, self._resamples, self._seed) for image, _ in waiting], axis=1)
        flat = maps.reshape(len(maps), -1)
        shape = self._sums.shape[1:]
        self._sums[half] += (weights @ np.nan_to_num(flat)).reshape(shape)
        self._counts[half] += (weights @ np.isfinite(flat).astype(np.float32)).reshape(shape)
        waiting.clear()

    def summary(self, count: int = 5) -> dict[str, Any]:
        """Return what the expressions say of the heads.

        Returns:
            ``alignment``, ``control_alignment``: (L, H) means over all expressions; ``top_heads``: the best by them,
            with ``chosen_again``, the share of resamples in which each is among as many best ones again; ``held_out``:
            of the head that is best on one half of the images, its mean on the other, and the other way round
            (``value``, ``control``, ``over_control``, each with an interval; ``heads``, the two that were chosen; ``n``
            expressions, ``images``, and a ``note`` where these are few). None with a ``reason`` where one half of the
            images is empty. With thresholds, each head has its best one, which ``top_heads`` and ``held_out`` name.
        """
        for half in (0, 1):
            self._add_up(half)
        if self._sums is None or self._counts is None:
            return {"alignment": [], "control_alignment": [], "top_heads": [], "held_out": _undefined("no expressions")}
        means = _ratio(self._sums.sum(axis=0), self._counts.sum(axis=0))
        thresholds = None
        if self._thresholds:
            chosen = np.nan_to_num(self._sign * means[:, :1], nan=-np.inf).argmax(axis=-1, keepdims=True)
            means = np.take_along_axis(means, chosen, axis=-1)[..., 0]
            thresholds = chosen[0, 0, ..., 0]
        best = self._best(means[:, 0], count)
        again = (best[1:, :, None] == best[0]).any(axis=1).mean(axis=0)
        top = []
        for flat, share in zip(best[0], again, strict=True):
            place = layer, head = np.unravel_index(flat, means.shape[2:])
            if np.isfinite(score := means[0, 0][place]):
                top.append(
                    {
                        **{"layer": int(layer), "head": int(head), "score": float(score)},
                        **({} if thresholds is None else {"threshold": self._thresholds[thresholds[place]]}),
                        "control": _number(means[0, 1][place]),
                        "chosen_again": float(share),
                    }
                )
        return {
            "alignment": as_lists(means[0, 0].astype(np.float64)),
            "control_alignment": as_lists(means[0, 1].astype(np.float64)),
            "top_heads": top,
            "held_out": self._held_out(self._sums, self._counts),
        }

    def _best(self, means: FloatArray, count: int) -> NDArray[np.int64]:
        """Return the places of the best heads of each of some maps (M, L, H): (M, count)."""
        flat = (self._sign * means).reshape(len(means), -1)
        return np.argsort(-np.nan_to_num(flat, nan=-np.inf), axis=1, kind="stable")[:, :count]

    def _held_out(self, sums: NDArray[np.float32], counts: NDArray[np.float32]) -> dict[str, Any]:
        if not all(self._images):
            return _undefined(TOO_FEW)
        chosen = [int(self._best(_ratio(sums[half, :1, 0], counts[half, :1, 0]), 1)[0, 0]) for half in (0, 1)]
        flat = [array.reshape(*array.shape[:3], -1) for array in (sums, counts)]
        # Each half's expressions under the head that the other half chose.
        total, number = (each[1][..., chosen[0]] + each[0][..., chosen[1]] for each in flat)
        values = _ratio(total, number)
        places = [[int(i) for i in np.unravel_index(place, sums.shape[3:])] for place in chosen]
        own = _with_interval(values[:, 0])
        return {
            **own,
            **({"reason": "no head has a score on both halves"} if own["value"] is None else {}),
            "control": _with_interval(values[:, 1]),
            "over_control": _with_interval(values[:, 0] - values[:, 1]),
            "heads": [place[:2] for place in places],
            **({"thresholds": [self._thresholds[place[2]] for place in places]} if self._thresholds else {}),
            "n": self._n,
            "images": (images := sum(map(len, self._images))),
            **({"note": f"with {images} images, the interval is too narrow"} if images < _FEW else {}),
        }


def selection_by(name: str, choosing: Collection[str], **options: Any) -> HeadSelection:
    """Return a selection by one of :data:`fivl_hf.explain.measures.MEASURES`, or by "iou".

    Args:
        choosing: as for :class:`HeadSelection`.
        options: its resamples and seed.
    """
    thresholds = IOU_THRESHOLDS if name == "iou" else ()
    return HeadSelection(choosing, higher_is_better=name not in LOWER_IS_BETTER, thresholds=thresholds, **options)


@lru_cache(4 * _BUFFERED)  # each measure asks for it
def _weights(image: str, resamples: int, seed: int) -> NDArray[np.float32]:
    """(1 + R,) how often an image counts in each resample."""
    drawn = np.random.default_rng([seed, int(image or "0", 16)]).poisson(1, resamples)
    return np.concatenate([[1], drawn]).astype(np.float32)


def _ratio(total: NDArray[np.float32], number: NDArray[np.float32]) -> FloatArray:
    result = np.full(total.shape, np.nan)
    return np.divide(total, number, out=result, where=number > 0)


def _with_interval(values: FloatArray) -> dict[str, Any]:
    """Return the first value with the percentile interval of the others."""
    drawn = values[1:][np.isfinite(values[1:])]
    interval = [float(each) for each in np.quantile(drawn, (0.025, 0.975))] if len(drawn) else [None, None]
    return {"value": _number(values[0]), "confidence_interval": interval}


def _undefined(reason: str) -> dict[str, Any]:
    return {"value": None, "confidence_interval": [None, None], "reason": reason}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
