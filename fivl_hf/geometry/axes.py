"""Boxes of tokens: one side of an image on its way through an image processor, and grids of cells."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Axis",
    "Boxes",
    "UnknownProcessorError",
    "grid_boxes",
    "padded_square_axes",
    "stretched_boxes",
    "tile_boxes",
    "unpadded_boxes",
]

Boxes = NDArray[np.float64]


class UnknownProcessorError(ValueError):
    """No token boxes are known for a processor."""


@dataclass(frozen=True)
class Axis:
    """One side of the image on its way through an image processor: source pixels <-> processed pixels.

    ``processed = (source + pad) * scale - offset``; ``length`` is the processed side.
    """

    source: int
    pad: float
    scale: float
    offset: int
    length: int

    def to_source(self, processed: ArrayLike) -> NDArray[np.float64]:
        """Return source coordinates of processed ones, of any shape, clipped to the image."""
        return ((np.asarray(processed, dtype=np.float64) + self.offset) / self.scale - self.pad).clip(0, self.source)

    def cells(self, patch: int, tile: int | None = None) -> NDArray[np.float64]:
        """Return source intervals of consecutive patches: (cells, 2), clipped to the image; NaN where entirely outside.

        Args:
            patch: processed pixels of a patch.
            tile: processed pixels of a tile; what a tile holds beyond whole patches is in none. By default the whole
                side is one tile.
        """
        tile = tile or self.length
        within = np.arange(tile // patch) * float(patch)
        starts = (np.arange(self.length // tile)[:, None] * tile + within).reshape(-1)
        cells = np.stack([self.to_source(starts), self.to_source(starts + patch)], axis=1)
        # Rounding must not leave a sliver of a cell that lies entirely in the padding.
        cells[cells[:, 1] - cells[:, 0] < 1e-6] = np.nan
        return cells


def padded_square_axes(size: tuple[int, int], side: int) -> tuple[Axis, Axis]:
    """Return the x and y axis of an image (width, height) that LLaVA's padding makes a square, resized to ``side``."""
    square = max(size)
    x, y = (
        Axis(source=length, pad=(square - length) // 2, scale=side / square, offset=0, length=side) for length in size
    )
    return x, y


def unpadded_boxes(boxes: ArrayLike, size: tuple[int, int], side: int) -> Boxes:
    """Map boxes of the padded square (:func:`padded_square_axes`) to source pixels: (N, 4) -> (K, 4).

    Boxes with NaN, and those that lie in the padding, are left out.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    corners = corners[np.isfinite(corners).all(axis=1)]
    horizontal, vertical = padded_square_axes(size, side)
    x, y = horizontal.to_source(corners[:, [0, 2]]), vertical.to_source(corners[:, [1, 3]])
    source = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    return source[(source[:, 2] > source[:, 0]) & (source[:, 3] > source[:, 1])]


def grid_boxes(columns: Boxes, rows: Boxes) -> Boxes:
    """Return cells row by row: columns (C, 2) and rows (R, 2) as intervals -> boxes (R · C, 4), NaN where either is."""
    x = np.broadcast_to(columns[None], (len(rows), len(columns), 2))
    y = np.broadcast_to(rows[:, None], (len(rows), len(columns), 2))
    boxes = np.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1).reshape(-1, 4)
    boxes[np.isnan(boxes).any(axis=1)] = np.nan
    return boxes


def stretched_boxes(size: tuple[int, int], processed: tuple[int, int], cells: tuple[int, int]) -> Boxes:
    """Return cells of an image that is stretched to ``processed``, without regard to its shape.

    Args:
        size, processed: (width, height).
        cells: the number of columns and rows.
    """
    columns, rows = (
        Axis(source, pad=0, scale=length / source, offset=0, length=length).cells(length // count)
        for source, length, count in zip(size, processed, cells, strict=True)
    )
    return grid_boxes(columns, rows)


def tile_boxes(size: tuple[int, int], tiles: tuple[int, int], side: tuple[int, int], cells: int) -> list[Boxes]:
    """Return cells of each tile, tiles row by row, of an image that is stretched over columns × rows of them.

    Args:
        tiles: the number of columns and rows.
        side: (width, height) of a tile in processed pixels.
        cells: per side of a tile.
    """
    processed = tiles[0] * side[0], tiles[1] * side[1]
    count = tiles[0] * cells, tiles[1] * cells
    boxes = stretched_boxes(size, processed, count).reshape(tiles[1], cells, tiles[0], cells, 4)
    return [boxes[row, :, column].reshape(-1, 4) for row in range(tiles[1]) for column in range(tiles[0])]
