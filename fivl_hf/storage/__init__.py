"""Rows on disk: Parquet folders that ``load_dataset(folder)`` reads, and reading them back."""

from fivl_hf.storage.reading import load_rows, parquet_rows, rows_fingerprint, split_names, with_encoded_images
from fivl_hf.storage.writing import assemble_dataset, require_split_name, write_dataset, write_valid_rows

__all__ = [
    "assemble_dataset",
    "load_rows",
    "parquet_rows",
    "require_split_name",
    "rows_fingerprint",
    "split_names",
    "with_encoded_images",
    "write_dataset",
    "write_valid_rows",
]
