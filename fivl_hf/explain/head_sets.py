"""Sets of heads to knock out: the best and the worst by a score, and random sets matched to them.

Shapes: L layers, H heads.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fivl_hf.explain.alignment import AlignmentMap
from fivl_hf.explain.knockout import Head
from fivl_hf.explain.localization import HeadVotes, expression_attention, expression_maps, votes_among
from fivl_hf.explain.measures import auroc
from fivl_hf.explain.samples import Sample
from fivl_hf.masks import FloatArray

__all__ = [
    "SETS",
    "HeadScores",
    "SetName",
    "head_sets",
    "layer_windows",
    "matched_heads",
    "require_sizes",
    "require_window",
    "score_heads",
    "set_sizes",
]

SETS = ("aligned", "localization", "least aligned")
SetName = tuple[str, int, int]
"""One of ``SETS``, how many heads, and which random set like it that is (-1 for the set itself); or "layers", how many
layers, and the first of them."""

# A random head is drawn from the heads of its layer that are nearest in their attention to the image: from at least
# _NEAREST of them, and from more if the set is so small that fewer would not give _DIFFERENT sets.
_NEAREST, _DIFFERENT = 4, 24
# Draws for another random set, before all are taken to be known.
_ATTEMPTS = 50
_LARGEST_SET = 64


@dataclass(frozen=True)
class HeadScores:
    """The scores by which heads are chosen, and random ones matched to them.

    Attributes:
        auroc: (L, H) mean AUROC of the attention against the masks; NaN for a head that does not look at the image.
        mass: (L, H) mean share of the attention that goes to the image.
        localization: the localization heads, the best first.
    """

    auroc: FloatArray
    mass: FloatArray
    localization: tuple[Head, ...] = ()

    def ranked(self, name: str) -> list[Head]:
        """Return one of ``SETS``, the best first; all heads that look at the image, but for localization heads."""
        if name == "localization":
            return list(self.localization)
        signed = self.auroc if name == "least aligned" else -self.auroc
        places = [np.unravel_index(place, signed.shape) for place in np.argsort(signed, axis=None, kind="stable")]
        return [(int(layer), int(head)) for layer, head in places if np.isfinite(signed[layer, head])]


def score_heads(model: Any, batches: Iterable[Sequence[Sample]]) -> HeadScores:
    """Score all heads on some samples; what they do is to be measured on others.

    Args:
        batches: of samples that were encoded together.

    Raises:
        ValueError: no sample has an expression whose tokens and mask can be compared.
    """
    scores, masses = AlignmentMap(), AlignmentMap()
    votes: HeadVotes | None = None
    for batch in batches:
        for sample, evidence, heads in expression_attention(model, batch):
            sees = np.isfinite(evidence.coverage)
            scores.add(auroc(heads[..., sees], evidence.coverage[sees]))
            masses.add(heads.sum(axis=-1))
            if evidence.mask.any():
                votes = votes or votes_among(len(heads))
                votes.add(expression_maps(sample, evidence, heads))
    if not scores.n or votes is None:
        raise ValueError("no row has a key expression whose tokens and mask can be compared")
    return HeadScores(scores.mean(), masses.mean(), tuple(votes.ranked()))


def matched_heads(chosen: Sequence[Head], scores: HeadScores, rng: np.random.Generator) -> list[Head]:
    """Draw another head for each: one of its layer, among those nearest in their attention to the image.

    The fewer heads, the more are near enough, so that there are many different sets. Where a layer has none left, it is
    one of the nearest of all layers.

    Raises:
        ValueError: fewer other heads than chosen ones.
    """
    free = {head for head in scores.ranked("aligned") if head not in set(chosen)}
    if len(free) < len(chosen):
        raise ValueError(f"{len(chosen)} heads cannot be matched: the model has {len(free)} others that see the image")
    near = max(_NEAREST, math.ceil(_DIFFERENT ** (1 / len(chosen))))
    drawn = []
    for layer, head in chosen:
        mass = scores.mass[layer, head]
        candidates = [each for each in free if each[0] == layer] or list(free)
        nearest = sorted(candidates, key=lambda each: (abs(scores.mass[each] - mass), each))[:near]
        drawn.append(nearest[int(rng.integers(len(nearest)))])
        free.remove(drawn[-1])
    return drawn


def set_sizes(scores: HeadScores, sizes: Sequence[int] | None = None) -> list[int]:
    """Return the numbers of heads to knock out; by default 1, 2, 4, ... 64, up to half of the heads that see the image.

    Raises:
        ValueError: no size, or one that leaves fewer heads than it takes.
    """
    heads = len(scores.ranked("aligned"))
    largest = min(_LARGEST_SET, heads // 2)
    wanted = list(sizes or [size for size in (2**power for power in range(7)) if size <= largest])
    require_sizes(wanted, heads)
    return wanted


def require_sizes(sizes: Sequence[int], heads: int) -> None:
    """Raise ValueError unless sizes, of which there must be some, are from 1 to half of the heads."""
    if not sizes or min(sizes) < 1 or max(sizes) > heads // 2:
        raise ValueError(f"sizes must be from 1 to {heads // 2}, half of the {heads} heads that see the image")


def require_window(width: int, layers: int) -> None:
    """Raise ValueError unless a window is of 1 to so many layers."""
    if not 1 <= width <= layers:
        raise ValueError(f"a window must be of 1 to {layers} layers, the number of those that see the image")


def head_sets(scores: HeadScores, sizes: Sequence[int], draws: int, seed: int) -> dict[SetName, list[Head]]:
    """Return, for each kind and size, the best heads and random sets matched to them, no two of which are the same.

    There may be fewer localization heads than the largest size, and fewer different random sets than ``draws``.

    Args:
        draws: random sets for each.
        seed: each random set depends on it, on the kind, the size and its own number alone.
    """
    sets: dict[SetName, list[Head]] = {}
    for kind, name in enumerate(SETS):
        ranked = scores.ranked(name)
        for size in (each for each in sizes if each <= len(ranked)):
            sets[name, size, -1] = ranked[:size]
            known: set[frozenset[Head]] = set()
            for draw in range(draws):
                rng = np.random.default_rng([seed, kind, size, draw])
                drawn = (matched_heads(ranked[:size], scores, rng) for _ in range(_ATTEMPTS))
                another = next((heads for heads in drawn if frozenset(heads) not in known), None)
                if another is None:
                    break
                known.add(frozenset(another))
                sets[name, size, draw] = another
    return sets


def layer_windows(scores: HeadScores, width: int) -> dict[SetName, list[Head]]:
    """Return all heads of every ``width`` consecutive layers that see the image (arXiv 2411.18620).

    Raises:
        ValueError: the model has fewer such layers.
    """
    layers = sorted({layer for layer, _ in scores.ranked("aligned")})
    require_window(width, len(layers))
    heads = scores.auroc.shape[1]
    windows = [layers[start : start + width] for start in range(len(layers) - width + 1)]
    return {
        ("layers", width, window[0]): [(layer, head) for layer in window for head in range(heads)] for window in windows
    }
