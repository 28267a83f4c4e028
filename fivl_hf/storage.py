"""Rows on disk: Parquet folders that ``load_dataset(folder)`` reads, and reading them back."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from fivl_hf.schema import BENCHMARK_FEATURES, FEATURES, RowError, validate_row

__all__ = ["load_rows", "write_dataset"]

ROW_GROUP_BYTES = 20_000_000
SHARD_BYTES = 100_000_000


def write_dataset(
    folder: str | Path, splits: Mapping[str, Iterable[Mapping[str, Any]]], *, title: str, description: str
) -> None:
    """Write checked rows as a dataset folder: Parquet shards and a card.

    Picture bytes are stored as they are. The folder appears only when it is complete; one that exists is replaced.

    Args:
        splits: rows of each split; images and masks as ``{"bytes", "path"}``. Conversation and benchmark rows may
            not be mixed.
        title, description: for the card.

    Raises:
        RowError: a row that does not fit the schema; nothing is left behind.
    """
    folder = Path(folder)
    building = folder.with_name(folder.name + ".incomplete")
    shutil.rmtree(building, ignore_errors=True)
    (building / "data").mkdir(parents=True)
    try:
        written = {split: _write_split(building / "data", split, rows) for split, rows in splits.items()}
        (building / "README.md").write_text(_card(title, description, written), encoding="utf-8")
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(building, folder)


def load_rows(dataset: str | Path, split: str, name: str | None = None) -> datasets.Dataset:
    """A split of FiVL rows from a folder or the Hub, pictures left encoded, so that nothing is decoded before use.

    Args:
        dataset: folder or Hub id, as for :func:`datasets.load_dataset`.
        split: such as ``"train"`` or ``"test[:100]"``.
        name: the dataset's configuration.

    Raises:
        RowError: a column of the schema is missing.
        FileNotFoundError: neither a folder nor a reachable Hub dataset.
    """
    if not Path(dataset).exists() and str(dataset).count("/") > 1:
        raise FileNotFoundError(f"there is no dataset folder {str(dataset)!r}")
    rows = datasets.load_dataset(str(dataset), name, split=split)
    features = BENCHMARK_FEATURES if "question" in rows.column_names else FEATURES
    for column in features:
        if column not in rows.column_names:
            raise RowError(f"{dataset}, split {split}", column, "a value", "none: the column is missing")
    for column in ("images", "masks"):
        rows = rows.cast_column(column, datasets.List(datasets.Image(decode=False)))
    return rows


@dataclass(frozen=True)
class _Split:
    """A written split: its rows, and a digest of its bytes that is part of its file names.

    ``datasets`` caches a local folder by its name and the file patterns of its card alone: without the digest, a
    folder written anew, or another of the same name, would load the old rows.
    """

    rows: int
    digest: str


def _write_split(folder: Path, split: str, rows: Iterable[Mapping[str, Any]]) -> _Split:
    """Write one split's shards."""
    count = 0
    shards: list[Path] = []
    for shard in _shards(rows):
        shards.append(folder / f"{split}-{len(shards):05d}.parquet")
        count += _write_shard(shards[-1], shard)
    content = hashlib.sha256()
    for path in shards:
        content.update(path.read_bytes())
    digest = content.hexdigest()[:12]
    for i, path in enumerate(shards):
        path.rename(folder / f"{split}-{i:05d}-of-{len(shards):05d}-{digest}.parquet")
    return _Split(count, digest)


def _shards(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[pa.Table]]:
    """Tables of about a row group each, gathered into shards."""
    features, tables, batch, batch_bytes = None, [], [], 0
    ids: set[str] = set()
    for row in rows:
        validate_row(row)
        if row["id"] in ids:
            raise RowError(row["id"], "id", "an id of its own", "one that an earlier row of the split has")
        ids.add(row["id"])
        features = features or (BENCHMARK_FEATURES if "question" in row else FEATURES)
        batch.append(features.encode_example({column: row[column] for column in features}))
        batch_bytes += sum(len(picture["bytes"] or b"") for picture in (*row["images"], *row["masks"])) + 500
        if batch_bytes >= ROW_GROUP_BYTES:
            tables.append(pa.Table.from_pylist(batch, schema=features.arrow_schema))
            batch, batch_bytes = [], 0
        if sum(table.nbytes for table in tables) >= SHARD_BYTES - ROW_GROUP_BYTES:
            yield tables
            tables = []
    if batch and features:
        tables.append(pa.Table.from_pylist(batch, schema=features.arrow_schema))
    if tables:
        yield tables


def _write_shard(path: Path, tables: list[pa.Table]) -> int:
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=len(table))
    return sum(map(len, tables))


def _card(title: str, description: str, written: Mapping[str, _Split]) -> str:
    files = "\n".join(
        f"  - split: {name}\n    path: data/{name}-*-{split.digest}.parquet" for name, split in written.items()
    )
    sizes = "\n".join(f"| {name} | {split.rows:,} |" for name, split in written.items())
    return f"""---
pretty_name: {title}
tags:
- fivl
configs:
- config_name: default
  default: true
  data_files:
{files}
---

# {title}

{description}

| split | rows |
|---|---|
{sizes}

Each row holds `images`, `messages` and the evidence: `key_expressions` (turn, text, span, nouns, boxes in source
pixels) and `masks`, one black-and-white picture per key expression. Load it with `datasets.load_dataset`;
train on it with `fivl_hf.FiVLTrainer` or any TRL vision script.
"""
