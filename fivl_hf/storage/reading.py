"""Reading rows back from disk or the Hub, images left encoded."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from huggingface_hub.constants import HF_HUB_CACHE
from PIL import Image

from fivl_hf.files.fingerprints import files_digest
from fivl_hf.images import encoded_bytes
from fivl_hf.models import existing_folder, hub_is_reachable
from fivl_hf.schema import BENCHMARK_FEATURES, FEATURES

__all__ = ["load_rows", "parquet_rows", "rows_fingerprint", "split_names", "with_encoded_images"]

# What rows and cards are in.
_DATA_FILES = {".parquet", ".arrow", ".json", ".jsonl", ".csv", ".md", ".yaml"}


def load_rows(dataset: str | Path, split: str, name: str | None = None, *, evidence: bool = True) -> datasets.Dataset:
    """Load a split of FiVL rows from a folder or the Hub, images left encoded, so that nothing is decoded before use.

    Args:
        dataset: folder or Hub id, as for :func:`datasets.load_dataset`.
        split: such as ``"train"`` or ``"test[:100]"``.
        name: the dataset's configuration.
        evidence: whether the columns of a FiVL row are needed; without, any dataset of TRL's formats is loaded.

    Raises:
        ValueError: no dataset, a column of the schema is missing, or an image is a file outside the dataset.
        FileNotFoundError: neither a folder nor a reachable Hub dataset.
    """
    _require_folder(dataset)
    try:
        rows = datasets.load_dataset(str(dataset), name, split=split, cache_dir=_cache_of(Path(dataset)))
    except (datasets.exceptions.DatasetsError, yaml.YAMLError) as error:
        broken = _broken_file(Path(dataset))
        raise ValueError(f"{dataset} cannot be read as a dataset: {broken or error}") from error
    features = BENCHMARK_FEATURES if "question" in rows.column_names else FEATURES
    missing = [column for column in features if column not in rows.column_names]
    if missing and evidence:
        raise ValueError(
            f"{dataset}, split {split}: column '{missing[0]}' is missing; found {rows.column_names}. FiVL rows "
            "are made of image conversations by fivl augment"
        )
    rows = with_encoded_images(rows)
    _require_own_images(rows, dataset)
    return rows


def _cache_of(folder: Path) -> str | None:
    """Return where a folder's rows are cached; None for a dataset on the Hub.

    `datasets` knows a folder by its last name and its card: it would give the rows of another folder of that name, or
    those that stood there before.
    """
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.suffix in _DATA_FILES)
    return str(Path(datasets.config.HF_DATASETS_CACHE) / f"fivl-{files_digest(files)}")


def _require_own_images(rows: datasets.Dataset, dataset: str | Path) -> None:
    """Raise ValueError if an image is a path to a file that does not belong to the dataset, which may be a stranger's.

    Opened, such a file would be shown, or sent to a language model's server.
    """
    folder = Path(dataset)
    cached = (HF_HUB_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH)
    roots = [Path(root).resolve() for root in ([folder] if folder.is_dir() else cached)]
    for column in [name for name in ("images", "masks") if name in rows.column_names]:
        feature = rows.features[column]
        if not isinstance(getattr(feature, "feature", None), datasets.Image):
            raise ValueError(f"{dataset}, column '{column}': a list of images was expected, got {feature}")
        for row, path in _bare_paths(rows, column):
            if not any(Path(path).resolve().is_relative_to(root) for root in roots):
                raise ValueError(
                    f"{dataset}, row {row}, column '{column}': the image is the file {path!r}, outside the dataset's "
                    "folder, and is not read: store its bytes"
                )


def _bare_paths(rows: datasets.Dataset, column: str) -> Iterator[tuple[int, str]]:
    """Yield row and path of each image of which the rows hold a path and no bytes."""
    first = 0
    for chunk in rows.data.column(column).chunks:
        images = pc.list_flatten(chunk)
        paths = images.field("path")
        bare = pc.and_(pc.is_null(images.field("bytes")), pc.is_valid(paths))
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
    """Count the rows of a Parquet file; raises ValueError, naming it, if it is truncated or corrupt."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is truncated or not a Parquet file; build the dataset again ({error})") from error


def _broken_file(folder: Path) -> str | None:
    """Say what is wrong with the first broken Parquet file of a folder; None if all can be read."""
    for path in sorted(folder.glob("**/*.parquet")) if folder.is_dir() else ():
        try:
            parquet_rows(path)
        except ValueError as error:
            return str(error)
    return None


def split_names(dataset: str | Path, name: str | None = None) -> list[str]:
    """Return the splits of a dataset: folder or Hub id. Raises as :func:`load_rows`."""
    _require_folder(dataset)
    try:
        return list(datasets.get_dataset_split_names(str(dataset), name))
    except (datasets.exceptions.DatasetsError, OSError):
        raise
    except Exception as error:  # whatever yaml, pyarrow or fsspec say of a folder that is not a dataset
        raise ValueError(f"{dataset} cannot be read as a dataset: {error}") from error


def with_encoded_images(dataset: Any) -> Any:
    """Leave the image columns of a dataset (or a dictionary of datasets, or None) encoded, in Python types.

    Images are then opened where they are used, once, and one that cannot be read is named with its row. A dataset with
    a transform of the user's own is left as it is: the transform counts on decoded images.
    """
    if isinstance(dataset, dict):
        return type(dataset)({name: with_encoded_images(split) for name, split in dataset.items()})
    shown = getattr(dataset, "format", None) or {}
    if shown.get("type") == "custom":
        return dataset
    if shown.get("type") is not None:
        dataset = dataset.with_format(None, columns=shown["columns"])
    elif getattr(getattr(dataset, "_formatting", None), "format_type", None) is not None:
        dataset = dataset.with_format(None)  # a stream
    features = getattr(dataset, "features", None) or {}
    for column, feature in features.items():
        # Whatever mode is asked for: decoded by `datasets`, any format would be opened, EPS by Ghostscript.
        if column in ("images", "masks") and isinstance(getattr(feature, "feature", None), datasets.Image):
            dataset = dataset.cast_column(column, datasets.List(datasets.Image(decode=False)))
        elif column == "image" and isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
    return dataset


def rows_fingerprint(rows: Any, sample: int | None = None) -> str | None:
    """Hash a dataset's length and its rows, images and masks included.

    Args:
        rows: a dataset.
        sample: number of rows, evenly spaced; all if None.

    Returns:
        16 hexadecimal digits; None for a stream.
    """
    if not hasattr(rows, "__len__"):
        return None
    rows, count = with_encoded_images(rows), len(rows)
    numbers: Sequence[int] = range(count)
    if sample is not None and count > sample:
        numbers = [i * (count - 1) // max(sample - 1, 1) for i in range(sample)]
    content = hashlib.sha256(str(count).encode())
    for number in numbers:
        content.update(json.dumps(rows[number], default=_value_digest, sort_keys=True).encode())
    return content.hexdigest()[:16]


def _value_digest(value: Any) -> str:
    """Hash what JSON cannot hold: an image's bytes, or a decoded image."""
    if isinstance(value, Image.Image):
        value = encoded_bytes(value)
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes | bytearray) else str(value)
