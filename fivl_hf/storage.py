"""Rows on disk: Parquet folders that ``load_dataset(folder)`` reads, and reading them back."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from datasets import Features
from huggingface_hub.constants import HF_HUB_CACHE

from fivl_hf.cards import DEFAULT_CONFIG, About, WrittenFiles, dataset_card
from fivl_hf.files.owned import replaced_files
from fivl_hf.images import as_encoded
from fivl_hf.models import existing_folder, hub_is_reachable
from fivl_hf.schema import BENCHMARK_FEATURES, FEATURES, RowError, validate_row

__all__ = [
    "assemble_dataset",
    "load_rows",
    "parquet_rows",
    "require_split_name",
    "rows_fingerprint",
    "split_names",
    "undecoded",
    "write_dataset",
    "write_valid_rows",
]

ROW_GROUP_BYTES = 20_000_000
SHARD_BYTES = 100_000_000
_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")


def write_dataset(
    folder: str | Path, splits: Mapping[str, Iterable[Mapping[str, Any]]], *, title: str, description: str
) -> None:
    """Write checked rows as a dataset folder: Parquet shards and a card.

    Image bytes are stored as they are. An earlier dataset of ours in the folder is replaced once the new one is
    complete; other people's files there are left alone (:func:`fivl_hf.files.owned.replaced_files`).

    Args:
        splits: rows of each split; one without rows is left out. Conversation and benchmark rows may not be mixed.
        title, description: for the card.

    Raises:
        RowError: a row that does not fit the schema; nothing is left behind.
        ValueError: no rows at all.
        FileExistsError: the folder holds something else than a FiVL dataset.
    """
    tables = {split: {"": _shards(rows)} for split, rows in splits.items()}
    _build(Path(folder), tables, lambda _: About(title, description))


def write_valid_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as one Parquet file, complete or not at all; without rows there is no file.

    Args:
        rows: of one kind, with ids of their own, each of which :func:`fivl_hf.schema.validate_row` passed.

    Returns:
        How many rows there are.

    Raises:
        OSError: the disk is full, or may not be written to.
    """
    tables = list(_tables(rows))
    if not tables:
        path.unlink(missing_ok=True)
        return 0
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        count = _write_shard(temporary, tables)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def assemble_dataset(
    folder: str | Path,
    files: Mapping[str, Mapping[str, Iterable[Path]]],
    *,
    about: Callable[[Path], About],
) -> None:
    """Put files that :func:`write_valid_rows` wrote together as a dataset folder, as :func:`write_dataset` writes one.

    Args:
        files: of each split, the files of each part, in order. Parts with a name become configurations of their own
            beside the default one, which holds everything. Ids must be unique in a split; they are not checked again.
        about: called with the folder before it is complete, to put more files in; gives what the card says.

    Raises:
        ValueError: no rows at all.
        FileExistsError: the folder holds something else than a FiVL dataset.
    """
    splits = {
        split: {part: _gathered(pq.read_table(path) for path in paths) for part, paths in parts.items()}
        for split, parts in files.items()
    }
    _build(Path(folder), splits, about)


def _build(
    folder: Path, splits: Mapping[str, Mapping[str, Iterator[list[pa.Table]]]], about: Callable[[Path], About]
) -> None:
    """Write shards of tables and their card, and make them the folder's dataset."""
    for split in splits:
        require_split_name(split)
    with replaced_files(folder, last="README.md") as building:
        (building / "data").mkdir()
        written = {
            split: {part: _write_split(building / "data", split, part, shards) for part, shards in parts.items()}
            for split, parts in splits.items()
        }
        features = _common_features(folder, written)
        card = dataset_card(about(building), _configs(written), features)
        (building / "README.md").write_text(card, encoding="utf-8")


def require_split_name(split: str) -> None:
    """Raise ValueError if ``datasets`` could not read a split of this name."""
    if not _SPLIT_NAME.fullmatch(split):
        raise ValueError(f"a split's name is made of letters, digits, '_' and '.', got {split!r}")


def load_rows(dataset: str | Path, split: str, name: str | None = None) -> datasets.Dataset:
    """A split of FiVL rows from a folder or the Hub, pictures left encoded, so that nothing is decoded before use.

    Args:
        dataset: folder or Hub id, as for :func:`datasets.load_dataset`.
        split: such as ``"train"`` or ``"test[:100]"``.
        name: the dataset's configuration.

    Raises:
        ValueError: no dataset, a column of the schema is missing, or an image is a file outside the dataset.
        FileNotFoundError: neither a folder nor a reachable Hub dataset.
    """
    _require_folder(dataset)
    try:
        rows = datasets.load_dataset(str(dataset), name, split=split)
    except (datasets.exceptions.DatasetsError, yaml.YAMLError) as error:
        broken = _broken_file(Path(dataset))
        raise ValueError(f"{dataset} cannot be read as a dataset: {broken or error}") from error
    features = BENCHMARK_FEATURES if "question" in rows.column_names else FEATURES
    missing = [column for column in features if column not in rows.column_names]
    if missing:
        raise ValueError(f"{dataset}, split {split}: column '{missing[0]}' is missing; found {rows.column_names}")
    rows = undecoded(rows)
    _require_own_images(rows, dataset)
    return rows


def _require_own_images(rows: datasets.Dataset, dataset: str | Path) -> None:
    """Raise ValueError if an image is a path to a file that does not belong to the dataset, which may be a stranger's.

    Opened, such a file would be shown, or sent to a language model's server.
    """
    folder = Path(dataset)
    cached = (HF_HUB_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH)
    roots = [Path(root).resolve() for root in ([folder] if folder.is_dir() else cached)]
    for column in ("images", "masks"):
        for row, path in _bare_paths(rows, column):
            if not any(Path(path).resolve().is_relative_to(root) for root in roots):
                raise ValueError(
                    f"{dataset}, row {row}, column '{column}': the image is the file {path!r}, outside the dataset's "
                    "folder, and is not read: store its bytes"
                )


def _bare_paths(rows: datasets.Dataset, column: str) -> Iterator[tuple[int, str]]:
    """Row and path of each image of which the rows hold a path and no bytes."""
    first = 0
    for chunk in rows.data.column(column).chunks:
        images = chunk.flatten() if isinstance(chunk, pa.ListArray | pa.LargeListArray) else None
        if isinstance(images, pa.StringArray | pa.LargeStringArray):
            paths, bare = images, pc.is_valid(images)
        elif isinstance(images, pa.StructArray):
            paths = images.field("path")
            bare = pc.and_(pc.is_null(images.field("bytes")), pc.is_valid(paths))
        else:
            continue  # no images, as is found where rows are checked
        for index in np.flatnonzero(bare.to_numpy(zero_copy_only=False)):
            yield first + pc.list_parent_indices(chunk)[int(index)].as_py(), paths[int(index)].as_py()
        first += len(chunk)


def _require_folder(dataset: str | Path) -> None:
    """Raise FileNotFoundError if ``dataset`` is neither a folder nor to be had from the Hub or its cache."""
    if Path(dataset).is_file():
        raise FileNotFoundError(f"{dataset} is a file; name the folder of the dataset")
    existing_folder(dataset, "dataset")
    cached = Path(datasets.config.HF_DATASETS_CACHE) / str(dataset).replace("/", "___")
    if not Path(dataset).exists() and not cached.exists() and not hub_is_reachable():
        raise FileNotFoundError(
            f"dataset {str(dataset)!r} is not on this machine, and the Hub cannot be reached: give its folder"
        )


def parquet_rows(path: Path) -> int:
    """How many rows a Parquet file has; raises ValueError, naming it, if it is broken or half written."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is truncated or not a Parquet file; build the dataset again ({error})") from error


def _broken_file(folder: Path) -> str | None:
    """What is wrong with the first broken Parquet file of a folder."""
    for path in sorted(folder.glob("**/*.parquet")) if folder.is_dir() else ():
        try:
            parquet_rows(path)
        except ValueError as error:
            return str(error)
    return None


def split_names(dataset: str | Path, name: str | None = None) -> list[str]:
    """The splits of a dataset: folder or Hub id. Raises as :func:`load_rows`."""
    _require_folder(dataset)
    try:
        return list(datasets.get_dataset_split_names(str(dataset), name))
    except (datasets.exceptions.DatasetsError, OSError):
        raise
    except Exception as error:  # whatever yaml, pyarrow or fsspec say of a folder that is no dataset
        raise ValueError(f"{dataset} cannot be read as a dataset: {error}") from error


def undecoded(dataset: Any) -> Any:
    """The same dataset (or dictionary of datasets, or None) with its image columns left encoded, in Python types.

    Images are then opened where they are used, once, and one that cannot be read is named with its row. A dataset with
    a transform of the user's own is left as it is: the transform counts on decoded images.
    """
    if isinstance(dataset, dict):
        return type(dataset)({name: undecoded(split) for name, split in dataset.items()})
    shown = getattr(dataset, "format", None) or {}
    if shown.get("type") == "custom":
        return dataset
    if shown.get("type") is not None:
        dataset = dataset.with_format(None, columns=shown["columns"])
    elif getattr(getattr(dataset, "_formatting", None), "format_type", None) is not None:
        dataset = dataset.with_format(None)  # a stream
    features = getattr(dataset, "features", None) or {}
    for column, feature in features.items():
        if column in ("images", "masks") and getattr(feature, "feature", None) == datasets.Image():
            dataset = dataset.cast_column(column, datasets.List(datasets.Image(decode=False)))
        elif column == "image" and feature == datasets.Image():
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
    return dataset


def rows_fingerprint(rows: Any, sample: int | None = None) -> str | None:
    """Return a digest of a dataset's length and of the texts of its rows (questions, answers, evidence).

    Args:
        rows: a dataset; its images and masks are not read.
        sample: only so many rows, evenly spaced.

    Returns:
        16 hexadecimal digits; None for a stream.
    """
    if not hasattr(rows, "__len__") or not hasattr(rows, "remove_columns"):
        return None
    texts = rows.remove_columns([name for name in rows.column_names if name in ("image", "images", "masks")])
    count = len(rows)
    if sample is not None and count > sample:
        texts = texts.select([i * (count - 1) // max(sample - 1, 1) for i in range(sample)])
    content = hashlib.sha256(str(count).encode())
    for row in texts:
        content.update(json.dumps(row, default=str, sort_keys=True).encode())
    return content.hexdigest()[:16]


_Written = Mapping[str, Mapping[str, tuple[WrittenFiles, Features] | None]]


def _common_features(folder: Path, written: _Written) -> Features:
    """The features of all files; raises ValueError if there are none, or of two kinds."""
    found = [result[1] for parts in written.values() for result in parts.values() if result]
    if not found:
        raise ValueError(f"there are no rows to write to {folder}")
    if any(features != found[0] for features in found):
        raise ValueError("conversation and benchmark rows may not be splits of one dataset")
    return found[0]


def _configs(written: _Written) -> dict[str, dict[str, list[WrittenFiles]]]:
    """Configurations: everything, and each part with a name. `datasets` cannot read a split without rows."""
    configs: dict[str, dict[str, list[WrittenFiles]]] = {DEFAULT_CONFIG: {}}
    for split, parts in written.items():
        for part, result in parts.items():
            if result:
                configs[DEFAULT_CONFIG].setdefault(split, []).append(result[0])
                if part:
                    configs.setdefault(part, {})[split] = [result[0]]
    return configs


def _write_split(
    folder: Path, split: str, part: str, tables: Iterator[list[pa.Table]]
) -> tuple[WrittenFiles, Features] | None:
    """Write the shards of one split, or of one part of it; None without rows.

    A digest of their bytes is part of the file names: ``datasets`` caches a local folder by its name and the file
    patterns of its card alone, and a folder written anew, or another of the same name, would load the old rows.
    """
    stem = f"{split}-{part}" if part else split
    rows = num_bytes = 0
    shards: list[Path] = []
    features = FEATURES
    for shard in tables:
        shards.append(folder / f"{stem}-{len(shards):05d}.parquet")
        rows += _write_shard(shards[-1], shard)
        num_bytes += sum(table.nbytes for table in shard)
        features = BENCHMARK_FEATURES if "question" in shard[0].column_names else FEATURES
    if not rows:
        return None
    content = hashlib.sha256()
    for path in shards:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
    digest = content.hexdigest()[:12]
    file_bytes = sum(path.stat().st_size for path in shards)
    for i, path in enumerate(shards):
        path.rename(folder / f"{stem}-{i:05d}-of-{len(shards):05d}-{digest}.parquet")
    return WrittenFiles(f"data/{stem}-*-{digest}.parquet", rows, num_bytes, file_bytes), features


def _shards(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[pa.Table]]:
    """Checked rows as shards of tables."""
    return _gathered(_tables(_checked(rows)))


def _checked(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The rows as they are, if they fit the schema and have ids of their own."""
    ids: set[str] = set()
    for row in rows:
        validate_row(row)
        if row["id"] in ids:
            raise RowError(row["id"], "id", "an id of its own", "one that an earlier row of the split has")
        ids.add(row["id"])
        yield row


def _tables(rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.Table]:
    """Tables of about a row group each."""
    features: Features | None = None
    batch: list[dict[str, Any]] = []
    batch_bytes = 0
    for row in rows:
        kind = BENCHMARK_FEATURES if "question" in row else FEATURES
        if features not in (None, kind):
            raise RowError(row["id"], "messages", "rows of one kind", "conversation and benchmark rows in one split")
        features = kind
        pictures = {column: [as_encoded(value) for value in row[column]] for column in ("images", "masks")}
        batch.append({column: pictures.get(column, row.get(column)) for column in features})
        batch_bytes += sum(len(picture["bytes"]) for column in pictures.values() for picture in column) + 500
        if batch_bytes >= ROW_GROUP_BYTES:
            yield pa.Table.from_pylist(batch, schema=features.arrow_schema)
            batch, batch_bytes = [], 0
    if features and batch:
        yield pa.Table.from_pylist(batch, schema=features.arrow_schema)


def _gathered(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Tables joined to row groups of at most about 20 MB, and those gathered into shards."""
    shard: list[pa.Table] = []
    size = 0
    for group in _groups(tables):
        shard.append(pa.concat_tables(group).combine_chunks())
        size += shard[-1].nbytes
        if size >= SHARD_BYTES - ROW_GROUP_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _groups(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    group: list[pa.Table] = []
    size = 0
    for table in tables:
        if group and size + table.nbytes > ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(table)
        size += table.nbytes
    if group:
        yield group


def _write_shard(path: Path, tables: list[pa.Table]) -> int:
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=len(table))
    return sum(map(len, tables))
