"""A pixel mask from what a coarse grid says of it: how much of each cell it covers.

FiVL's authors released each mask as a 24×24 grid over the image padded to a square. The mask that is made of it here
covers, in pixels of the source image, each cell by what the grid says, as far as whole pixels can.

Shapes: G cells per side, image H × W pixels.
"""

from dataclasses import dataclass

import numpy as np

from fivl_hf.masks import BoolArray, FloatArray

__all__ = ["mask_from_grid"]

_EXACT = 1e-9
# A cell with room for this many more pixels can spare a whole border.
_SPARE = 15.0


def mask_from_grid(grid: FloatArray, size: tuple[int, int]) -> BoolArray:
    """Return a mask (H, W) that covers every cell of the padded square by the share that ``grid`` gives.

    In each cell, the pixels nearest to better covered neighbours are set, so that shapes come out whole. A pixel across
    a cell's border counts for every cell by its share; a cell with 0 stays empty, whatever the others need.

    The cells of a mask that was drawn in pixels of this image are met to half a pixel: to 1/255 where the longer side
    has 280 pixels or more. Of a mask drawn elsewhere (at 336×336, say) and with an edge along a border of cells, no set
    of whole pixels may do: some cells on the edge are then further off (benchmarks/LOG.md).

    Args:
        grid: (G, G) shares from 0 to 1 of the cells of the image padded to a square (centred, as LLaVA pads).
        size: (width, height) of the source image.
    """
    cells = _Cells(np.clip(grid, 0.0, 1.0), size)
    # In three steps: each cell alone says which of its pixels it would leave unset; what cells then lack is taken from
    # pixels that they share; what is left over is made up inside each cell.
    unset = np.zeros(cells.field.shape, dtype=bool)
    partly = [tuple(place) for place in np.argwhere((cells.wanted > 0) & (cells.wanted < cells.visible - _EXACT))]
    for row, column in np.argwhere((cells.wanted <= 0) & (cells.visible > 0)):
        unset[cells.touched(row, column)] = True
    empty = unset.copy()
    # What full cells share with others is set in any case.
    for row, column in cells.full:
        cells.field[cells.touched(row, column)] += 1
    for row, column in partly:
        window = cells.touched(row, column)
        unset[window] |= ~cells.best(row, column)
    mask: BoolArray = np.asarray(~unset)
    _spread_over_borders(mask, empty, cells, partly)
    area = cells.areas(mask)
    for row, column in partly:
        cells.fill(mask, row, column, cells.wanted[row, column] - area[row, column])
    return mask


def _spread_over_borders(mask: BoolArray, empty: BoolArray, cells: "_Cells", partly: list[tuple[int, int]]) -> None:
    """Set pixels on the borders of cells whose own pixels cannot make up what they lack.

    They are taken where the cells beside can best spare it, and there nearest to what is covered.
    """
    inner = cells.inner()
    lacking = cells.wanted - cells.areas(mask | inner)
    room = cells.wanted - cells.areas(mask & ~inner)
    for row, column in (*cells.full, *partly):
        missing = lacking[row, column]
        # Half a pixel is as near as whole pixels come.
        if missing <= 0.5:
            continue
        window = cells.touched(row, column)
        weights = cells.weights(row, column)
        free = np.flatnonzero(~mask[window] & ~empty[window] & (weights > _EXACT) & (weights < 1 - _EXACT))
        # More room than _SPARE is no better: among cells with enough, the pixels nearest to the shape are taken.
        spare = np.minimum(cells.least(room, window).ravel()[free], _SPARE)
        order = free[np.lexsort((-cells.field[window].ravel()[free], -spare))]
        gained = np.cumsum(weights.ravel()[order])
        chosen = order[: int(np.searchsorted(gained, missing - 0.25)) + 1]
        _set(mask, window, chosen, True)
        # A pixel on a border counts for the neighbours, too.
        for near in np.ndindex(3, 3):
            place = row + near[0] - 1, column + near[1] - 1
            if min(place) >= 0 and max(place) < len(room):
                gain = cells.share_of(place, window).ravel()[chosen].sum()
                room[place] -= gain
                lacking[place] -= gain


def _set(mask: BoolArray, window: tuple[slice, slice], places: np.ndarray, value: bool) -> None:
    """Set pixels of a window, numbered row by row."""
    view = mask[window]
    view[np.unravel_index(places, view.shape)] = value


@dataclass
class _Axis1D:
    """The overlaps of cells and pixels along one side.

    Attributes:
        overlap: (G, pixels) how much of each pixel lies in each cell.
        start, stop: (G,) the pixels that each cell touches.
        cells: (2, pixels) the first and the last cell that each pixel touches.
        edges: (G + 1,) where the cells begin and end, in pixels of the image.
        share: (pixels, G) linear interpolation between the cells' centres, at the pixels' centres.
    """

    overlap: FloatArray
    start: np.ndarray
    stop: np.ndarray
    cells: np.ndarray
    edges: FloatArray
    share: FloatArray

    @classmethod
    def of(cls, cells: int, length: int, square: int) -> "_Axis1D":
        cell = square / cells
        pixels = np.arange(length) + (square - length) // 2
        edges = np.arange(cells + 1) * cell
        # The length of the intersection of each cell with each pixel.
        low = np.maximum(edges[:-1, None], pixels[None])
        high = np.minimum(edges[1:, None], pixels[None] + 1)
        overlap = np.clip(high - low, 0.0, 1.0)
        overlap[overlap < _EXACT] = 0.0
        touched = overlap > 0
        start = np.where(touched.any(1), touched.argmax(1), 0)
        stop = np.where(touched.any(1), length - touched[:, ::-1].argmax(1), 0)
        at = np.clip((pixels + 0.5) / cell - 0.5, 0, cells - 1)
        left = np.minimum(np.floor(at).astype(int), max(cells - 2, 0))
        share = np.zeros((length, cells))
        share[np.arange(length), left] = 1 - (at - left)
        share[np.arange(length), np.minimum(left + 1, cells - 1)] += at - left
        ends = np.stack([touched.argmax(0), cells - 1 - touched[::-1].argmax(0)])
        return cls(overlap, start, stop, ends, np.clip(edges - pixels[0], 0, length), share)

    def at_edges(self, sums: np.ndarray) -> FloatArray:
        """Running sums (pixels + 1, N) at the cells' edges: (G + 1, N)."""
        low = np.floor(self.edges).astype(np.intp)
        part = (self.edges - low)[:, None]
        return np.asarray(sums[low] * (1 - part) + sums[np.minimum(low + 1, len(sums) - 1)] * part)


class _Cells:
    """The cells of a grid over an image.

    Attributes:
        wanted: (G, G) pixels that the mask is to cover in each cell.
        visible: (G, G) pixels of each cell that lie in the image.
        field: (H, W) the grid, interpolated: where it is high, the mask is likely.
        full: (row, column) of the cells that the mask is to cover entirely.
    """

    def __init__(self, grid: FloatArray, size: tuple[int, int]) -> None:
        width, height = size
        square = max(size)
        self._x, self._y = (_Axis1D.of(len(grid), length, square) for length in (width, height))
        cell = square / len(grid)
        self.visible = np.outer(self._y.overlap.sum(1), self._x.overlap.sum(1))
        self.wanted = np.minimum(grid * cell * cell, self.visible)
        # In single precision, so that equal places stay equal however many threads the product takes.
        self.field = (self._y.share @ grid @ self._x.share.T).astype(np.float32)
        whole = (self.wanted >= self.visible - _EXACT) & (self.visible > 0)
        self.full = [(int(row), int(column)) for row, column in np.argwhere(whole)]

    def touched(self, row: int, column: int) -> tuple[slice, slice]:
        """Return the pixels that lie in a cell, entirely or in part."""
        return (
            slice(self._y.start[row], self._y.stop[row]),
            slice(self._x.start[column], self._x.stop[column]),
        )

    def weights(self, row: int, column: int) -> FloatArray:
        """Return how much of each touched pixel lies in the cell."""
        return self.share_of((row, column), self.touched(row, column))

    def share_of(self, place: tuple[int, int], window: tuple[slice, slice]) -> FloatArray:
        """Return how much of each pixel of a window lies in the cell of another place."""
        return np.outer(self._y.overlap[place[0], window[0]], self._x.overlap[place[1], window[1]])

    def areas(self, mask: BoolArray) -> FloatArray:
        """(G, G) pixels that a mask covers in each cell."""
        # Sums up to the cells' edges, across and then down; a matrix product would differ with the number of threads.
        across = np.zeros((mask.shape[0], mask.shape[1] + 1), dtype=np.int32)
        np.cumsum(mask, axis=1, dtype=np.int32, out=across[:, 1:])
        strips = np.diff(self._x.at_edges(across.T), axis=0)
        down = np.zeros((mask.shape[0] + 1, len(strips)))
        np.cumsum(strips.T, axis=0, out=down[1:])
        return np.diff(self._y.at_edges(down), axis=0)

    def least(self, values: FloatArray, window: tuple[slice, slice]) -> FloatArray:
        """Of a value per cell, the least among the cells that each pixel of a window touches."""
        rows, columns = (axis.cells[:, part] for axis, part in zip((self._y, self._x), window, strict=True))
        corners = [values[np.ix_(rows[i], columns[j])] for i in (0, 1) for j in (0, 1)]
        return np.asarray(np.minimum.reduce(corners))

    def inner(self) -> BoolArray:
        """(H, W) the pixels that lie entirely in one cell."""
        whole_y, whole_x = (np.asarray((axis.overlap > 1 - _EXACT).any(0)) for axis in (self._y, self._x))
        return np.asarray(whole_y[:, None] & whole_x[None])

    def best(self, row: int, column: int) -> BoolArray:
        """Of the pixels that a cell touches, those it would set if it were alone."""
        field, weights = self.field[self.touched(row, column)], self.weights(row, column)
        order = np.argsort(-field, axis=None, kind="stable")
        before = np.cumsum(weights.ravel()[order]) - weights.ravel()[order]
        chosen = np.zeros(field.size, dtype=bool)
        chosen[order[before + 0.5 * weights.ravel()[order] <= self.wanted[row, column]]] = True
        return chosen.reshape(field.shape)

    def fill(self, mask: BoolArray, row: int, column: int, missing: float) -> None:
        """Set ``missing`` more pixels that are entirely in a cell, or unset pixels if it is negative."""
        window = self.touched(row, column)
        free = (self.weights(row, column) > 1 - _EXACT) & (mask[window] == (missing < 0))
        sign = -1.0 if missing > 0 else 1.0
        order = np.flatnonzero(free)[np.argsort(sign * self.field[window][free], kind="stable")]
        _set(mask, window, order[: round(abs(missing))], missing > 0)
