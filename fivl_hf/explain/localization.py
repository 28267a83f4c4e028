"""Localization heads: heads that point at what is asked for, found without masks (Kang et al., CVPR 2025).

Shapes: L layers, H heads, N visual tokens of one image, Y × X cells of a map, as large as the smallest tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, label

from fivl_hf.explain.knockout import Head
from fivl_hf.explain.observation import Wanted, observe
from fivl_hf.explain.samples import Evidence, Sample
from fivl_hf.masks import BoolArray, FloatArray, paint_tokens

__all__ = [
    "SUMMED",
    "HeadVotes",
    "attention_maps",
    "elbow",
    "expression_attention",
    "expression_maps",
    "locate",
    "located_parts",
    "spatial_entropy",
    "votes_among",
]

Box = tuple[float, float, float, float]

# The published settings.
SKIPPED_LAYERS, VOTED, SUMMED = 2, 10, 3
_SIGMA, _OVER_MEAN = 1.0, 2.0
_NEIGHBOURS = np.ones((3, 3), dtype=int)


def attention_maps(attention: ArrayLike, boxes: ArrayLike, size: tuple[int, int]) -> FloatArray:
    """Lay the attention to visual tokens out as the image is: (..., N), (N, 4) -> (..., Y, X).

    Grids, tiles and merged patches give maps alike: what a cell shows is the smallest token that sees it; what no token
    sees is 0.

    Args:
        boxes: what each token sees, in pixels of the image; NaN for a token that sees nothing of it.
        size: (width, height) of the image.
    """
    values, places = np.asarray(attention, dtype=np.float64), np.asarray(boxes, dtype=np.float64)
    edges = (places[:, 2:] - places[:, :2])[np.isfinite(places[:, 0])]
    if not len(edges):
        return np.zeros((*values.shape[:-1], 1, 1))
    columns, rows = np.maximum(np.rint(np.array(size) / np.maximum(edges.min(axis=0), 1e-9)), 1).astype(int)
    scale = np.array([columns / size[0], rows / size[1]] * 2)
    tokens = paint_tokens(np.arange(len(places)), places * scale, (int(columns), int(rows)))
    seen = np.isfinite(tokens)
    maps = values[..., np.where(seen, tokens, 0).astype(int)]
    return np.where(seen, maps, 0.0)


def spatial_entropy(attention_map: FloatArray) -> float:
    """Return how scattered a map (Y, X) is: the entropy of its connected parts above twice its mean.

    Returns:
        0 for a single spot; infinity for a map without any.
    """
    above = np.maximum(attention_map - _OVER_MEAN * attention_map.mean(), 0)
    parts, count = label(above > 0, _NEIGHBOURS)
    if not count:
        return float("inf")
    masses = np.bincount(parts.ravel(), above.ravel())[1:]
    shares = masses / masses.sum()
    return float(-(shares * np.log(shares)).sum())


def elbow(values: ArrayLike) -> float:
    """Return the value at which a falling curve of values bends most: farthest from the line between its ends."""
    falling = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    if len(falling) < 3 or falling[0] == falling[-1]:
        return float(falling[-1])
    heights = (falling - falling[-1]) / (falling[0] - falling[-1])
    line = 1 - np.arange(len(falling)) / (len(falling) - 1)
    return float(falling[int(np.argmax(line - heights))])


@dataclass
class HeadVotes:
    """Chooses localization heads: each sample votes for the heads that look at one spot.

    Attributes:
        skipped_layers: the first layers, which look everywhere.
        voted: heads that each sample votes for.
    """

    skipped_layers: int = SKIPPED_LAYERS
    voted: int = VOTED
    _sums: list[FloatArray] = field(default_factory=list)
    _entropies: list[FloatArray] = field(default_factory=list)

    def add(self, maps: FloatArray) -> None:
        """Add a sample's maps (L, H, Y, X) of attention; NaN for a layer that does not look at the image."""
        self._sums.append(maps.sum(axis=(-2, -1)))
        known = np.asarray(np.isfinite(maps).all(axis=(-2, -1)))
        entropies = [spatial_entropy(maps[place]) if known[place] else np.inf for place in np.ndindex(known.shape)]
        self._entropies.append(np.reshape(entropies, known.shape))

    def ranked(self) -> list[Head]:
        """Return the heads with votes, the most first; only heads whose attention to the image is above the elbow.

        Raises:
            ValueError: no samples, or no layer is left.
        """
        if not self._sums:
            raise ValueError("there are no samples to choose localization heads on")
        sums, entropies = np.mean(self._sums, axis=0), np.array(self._entropies)
        sums[: self.skipped_layers] = np.nan
        known = np.isfinite(sums)
        if not known.any():
            raise ValueError(
                f"of {len(sums)} layers, none after the first {self.skipped_layers} has finite attention to the image"
            )
        looking = known & (sums >= elbow(sums[known]))
        votes, total = np.zeros(sums.shape), np.zeros(sums.shape)
        for sample in entropies:
            allowed = np.where(looking, sample, np.inf)
            best = np.argsort(allowed, axis=None, kind="stable")[: self.voted]
            best = best[np.isfinite(allowed.flat[best])]
            votes.flat[best] += 1
            total.flat[best] += allowed.flat[best]
        # Of heads with as many votes, the less scattered one.
        places = sorted(np.flatnonzero(votes), key=lambda i: (-votes.flat[i], total.flat[i] / votes.flat[i], i))
        return [(int(i // sums.shape[1]), int(i % sums.shape[1])) for i in places]


def locate(maps: Sequence[FloatArray] | FloatArray, size: tuple[int, int]) -> Box | None:
    """Return the box (x0, y0, x1, y1) in pixels at which some heads' maps (K, Y, X) point together.

    Each is smoothed, all are summed, and the part above the mean with the largest mass is taken.

    Args:
        size: (width, height) of the image.

    Returns:
        None where the maps are even.
    """
    boxes = located_parts(maps, size, 1)
    return boxes[0] if boxes else None


def located_parts(
    maps: Sequence[FloatArray] | FloatArray, size: tuple[int, int], most: int, *, smallest: float = 0.5
) -> list[Box]:
    """Return the boxes of the parts at which maps point, as :func:`locate` finds the first, the largest mass first.

    Args:
        most: number of parts.
        smallest: mass of a part, as a share of the largest part's.
    """
    summed = sum(gaussian_filter(np.nan_to_num(each), _SIGMA) for each in maps)
    assert isinstance(summed, np.ndarray)
    parts, count = label(summed > summed.mean(), _NEIGHBOURS)
    if not count:
        return []
    masses = np.bincount(parts.ravel(), summed.ravel())[1:]
    order = [part for part in np.argsort(-masses, kind="stable") if masses[part] >= smallest * masses.max()]
    return [_part_box(parts == part + 1, size) for part in order[:most]]


def _part_box(part: BoolArray, size: tuple[int, int]) -> Box:
    """Return the box in pixels of the cells (Y, X) of a part."""
    rows, columns = np.nonzero(part)
    across, down = size[0] / part.shape[1], size[1] / part.shape[0]
    return (
        float(columns.min() * across),
        float(rows.min() * down),
        float((columns.max() + 1) * across),
        float((rows.max() + 1) * down),
    )


def expression_attention(
    model: Any, samples: Sequence[Sample]
) -> Iterator[tuple[Sample, Evidence, NDArray[np.float32]]]:
    """Yield the attention (L, H, N) while each expression of a batch is written, if its tokens are found; one pass."""
    wanted = [Wanted([evidence.tokens for evidence in sample.evidence]) for sample in samples]
    for sample, seen in zip(samples, observe(model, samples, wanted), strict=True):
        for evidence, heads in zip(sample.evidence, seen.attention, strict=True):
            if heads is not None:
                yield sample, evidence, heads.cpu().numpy()


def expression_maps(sample: Sample, evidence: Evidence, attention: NDArray[np.float32]) -> FloatArray:
    """Lay the attention (L, H, N) of an expression out over its own image: (L, H, Y, X)."""
    own = sample.image_of == evidence.expression.image
    return attention_maps(attention[..., own], sample.boxes[own], sample.images[evidence.expression.image].size)


def votes_among(layers: int) -> HeadVotes:
    """Return votes for a model by its number of layers: in a shallow one, fewer layers are skipped, or none."""
    return HeadVotes(skipped_layers=min(SKIPPED_LAYERS, layers // 4))
