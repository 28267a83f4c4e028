"""Rows of Parquet files, read where they lie: nothing is copied or held that is not shown."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fivl_hf.images import ImageError

__all__ = ["ParquetRows", "split_files"]

# Row groups of about 20 MB that are kept.
_KEPT_GROUPS = 3


def split_files(dataset: str | Path, split: str, name: str | None = None) -> list[str]:
    """Return the Parquet files of a split: paths, or addresses of the Hub's file system.

    Args:
        dataset, split, name: as for :func:`fivl_hf.storage.load_rows`, without slices.

    Raises:
        ValueError: no such split, or files of another kind.
    """
    if "[" in split:
        raise ValueError(f"a page of all rows has no slices: give --split {split.partition('[')[0]}")
    try:
        builder = datasets.load_dataset_builder(str(dataset), name)
        files = builder.config.data_files or {}
    except datasets.exceptions.DatasetsError as error:
        raise ValueError(f"{dataset} cannot be read as a dataset: {error}") from error
    if split not in files:
        raise ValueError(f"{dataset} has no split {split!r}; there are {', '.join(map(str, files)) or 'none'}")
    paths = [str(path) for path in files[split]]
    if other := [path for path in paths if not path.endswith(".parquet")]:
        raise ValueError(f"{dataset}: {Path(other[0]).name} is not a Parquet file; fivl show without --browse reads it")
    return paths


class ParquetRows:
    """The rows of some Parquet files, in their order; a few row groups are in memory at a time.

    Raises:
        ValueError: a file that is truncated or not Parquet.
        OSError: a file that cannot be read.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._groups: list[tuple[pq.ParquetFile, int]] = []
        sizes: list[int] = []
        for path in files:
            try:
                file = pq.ParquetFile(fsspec.open(path, "rb").open() if "://" in path else path)
            except pa.ArrowInvalid as error:
                raise ValueError(f"{path} is truncated or not a Parquet file ({error})") from error
            for group in range(file.num_row_groups):
                self._groups.append((file, group))
                sizes.append(file.metadata.row_group(group).num_rows)
        self._starts = np.array([0, *accumulate(sizes)])
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return list(self._groups[0][0].schema_arrow.names) if self._groups else []

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return a row, images encoded.

        Raises:
            IndexError: no such row.
            ImageError: an image that is a path and not bytes: it may be anybody's file.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"there is no row {number}: there are {len(self):,}, counted from 0")
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        if group not in self._kept:
            file, place = self._groups[group]
            self._kept[group] = file.read_row_group(place)
            while len(self._kept) > _KEPT_GROUPS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        row: dict[str, Any] = self._kept[group].slice(number - int(self._starts[group]), 1).to_pylist()[0]
        for image in [*row.get("images", ()), *row.get("masks", ())]:
            if isinstance(image, dict) and image.get("bytes") is None:
                raise ImageError(f"row {number}: an image is the file {image.get('path')!r}, which is not read")
        return row

    def batches(self, columns: Sequence[str], size: int = 512) -> Iterator[list[dict[str, Any]]]:
        """Yield some columns of the rows, at most ``size`` rows at a time; columns that there are not are left out."""
        wanted = [name for name in columns if name in self.columns]
        for file, group in self._groups:
            for batch in file.iter_batches(size, [group], wanted):
                yield batch.to_pylist()
