"""Writing rows: Parquet folders that ``load_dataset(folder)`` reads."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features
from datasets.arrow_writer import get_parquet_column_options
from datasets.config import DEFAULT_CDC_OPTIONS

from fivl_hf.files.fingerprints import exact_digest
from fivl_hf.files.managed_folders import replaced_files
from fivl_hf.images import as_encoded
from fivl_hf.schema import BENCHMARK_FEATURES, FEATURES, RowError, validate_row
from fivl_hf.storage.cards import DEFAULT_CONFIG, CardContent, WrittenFiles, dataset_card
from fivl_hf.storage.eval_files import EVAL_FILE, eval_yaml

__all__ = ["assemble_dataset", "require_split_name", "write_dataset", "write_valid_rows", "writer_options"]

ROW_GROUP_BYTES = 20_000_000
SHARD_BYTES = 100_000_000
_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")
_Written = Mapping[str, Mapping[str, tuple[WrittenFiles, Features] | None]]


def write_dataset(
    folder: str | Path,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    *,
    title: str,
    description: str | Callable[[], str],
    front: Mapping[str, Any] | None = None,
) -> None:
    """Write checked rows as a dataset folder: Parquet shards and a card.

    Image bytes are stored as they are. An earlier dataset of ours in the folder is replaced once the new one is
    complete; other people's files there are left alone (:func:`fivl_hf.files.managed_folders.replaced_files`).

    Args:
        splits: rows of each split; one without rows is left out. Conversation and benchmark rows may not be mixed.
        title: for the card.
        description: for the card; one that is a function is called once all rows are written.
        front: further front matter of the card, such as ``license``.

    Raises:
        RowError: a row that does not fit the schema; nothing is left behind.
        ValueError: no rows at all.
        FileExistsError: the folder holds something other than a FiVL dataset.
    """
    tables = {split: {"": _shards(rows)} for split, rows in splits.items()}

    def about(_: Path) -> CardContent:
        return CardContent(title, description() if callable(description) else description, front or {})

    _build(Path(folder), tables, about)


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
    about: Callable[[Path], CardContent],
) -> None:
    """Put files that :func:`write_valid_rows` wrote together as a dataset folder, as :func:`write_dataset` writes one.

    Args:
        files: of each split, the files of each part, in order. Parts with a name become configurations of their own
            beside the default one, which holds everything. Ids must be unique in a split; they are not checked again.
        about: called with the folder before it is complete, to put more files in; gives what the card says.

    Raises:
        ValueError: no rows at all.
        FileExistsError: the folder holds something other than a FiVL dataset.
    """
    splits = {
        split: {part: _gathered(pq.read_table(path) for path in paths) for part, paths in parts.items()}
        for split, parts in files.items()
    }
    _build(Path(folder), splits, about)


def _build(
    folder: Path, splits: Mapping[str, Mapping[str, Iterator[list[pa.Table]]]], about: Callable[[Path], CardContent]
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
        content, configs = about(building), _configs(written)
        if "question" in features:
            (building / EVAL_FILE).write_text(eval_yaml(content.title, content.description, configs), encoding="utf-8")
        card = dataset_card(content, configs, features)
        (building / "README.md").write_text(card, encoding="utf-8")


def require_split_name(split: str) -> None:
    """Check that ``datasets`` can read a split of this name; raises ValueError if not."""
    if not _SPLIT_NAME.fullmatch(split):
        raise ValueError(f"a split's name is made of letters, digits, '_' and '.', got {split!r}")


def _common_features(folder: Path, written: _Written) -> Features:
    """Return the features of all files; raises ValueError if there are none, or of two kinds."""
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
    patterns of its card alone, and a folder written again, or another of the same name, would load the old rows.
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
    digest = exact_digest(shards)[:12]
    file_bytes = sum(path.stat().st_size for path in shards)
    for i, path in enumerate(shards):
        path.rename(folder / f"{stem}-{i:05d}-of-{len(shards):05d}-{digest}.parquet")
    return WrittenFiles(f"data/{stem}-*-{digest}.parquet", rows, num_bytes, file_bytes), features


def _shards(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[pa.Table]]:
    """Checked rows as shards of tables."""
    return _gathered(_tables(_checked(rows)))


def _checked(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows as they are, if they fit the schema and have ids of their own."""
    ids: set[str] = set()
    for row in rows:
        validate_row(row)
        if row["id"] in ids:
            raise RowError(row["id"], "id", "an id of its own", "one that an earlier row of the split has")
        ids.add(row["id"])
        yield row


def _tables(rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.Table]:
    """Yield tables of about a row group each."""
    features: Features | None = None
    batch: list[dict[str, Any]] = []
    batch_bytes = 0
    for row in rows:
        kind = BENCHMARK_FEATURES if "question" in row else FEATURES
        if features not in (None, kind):
            raise RowError(row["id"], "messages", "rows of one kind", "conversation and benchmark rows in one split")
        features = kind
        images = {column: [as_encoded(value) for value in row[column]] for column in ("images", "masks")}
        batch.append({column: images.get(column, row.get(column)) for column in features})
        batch_bytes += sum(len(image["bytes"]) for column in images.values() for image in column) + 500
        if batch_bytes >= ROW_GROUP_BYTES:
            yield pa.Table.from_pylist(batch, schema=features.arrow_schema)
            batch, batch_bytes = [], 0
    if features and batch:
        yield pa.Table.from_pylist(batch, schema=features.arrow_schema)


def _gathered(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Yield tables joined to row groups of at most about 20 MB, and those gathered into shards."""
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
    with pq.ParquetWriter(path, tables[0].schema, **writer_options(tables[0].schema)) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=len(table))
        # Recorded as `datasets` does, so that a tool that edits the file can chunk it the same way.
        writer.add_key_value_metadata({"content_defined_chunking": json.dumps(DEFAULT_CDC_OPTIONS)})
    return sum(map(len, tables))


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the options of ``pyarrow.parquet.ParquetWriter``: those of `datasets`.

    Images and masks are compressed already, so Parquet does not compress them: after an edit the Hub recognises their
    bytes and takes only what changed. Pages of at most 1 MB, cut where the content says so, and their index let the
    Hub's viewer fetch a few rows. ``benchmarks/pushing.py`` measures both.
    """
    return {
        "use_content_defined_chunking": DEFAULT_CDC_OPTIONS,
        "write_page_index": True,
        **get_parquet_column_options(Features.from_arrow_schema(schema), schema),
    }
