"""Provenance of results: which weights, rows and version of this package they were measured with."""

from pathlib import Path
from typing import Any

from fivl_hf import __version__
from fivl_hf.models import weights_fingerprint
from fivl_hf.storage.reading import rows_fingerprint

__all__ = ["provenance"]


def provenance(
    model: str | Path, rows: Any, *, dataset: str | Path, split: str, config: str | None = None
) -> dict[str, Any]:
    """Record what results are measured with: names, and digests of the weights, the rows and the code."""
    return {
        "model": str(model),
        "weights_fingerprint": weights_fingerprint(model),
        "dataset": str(dataset),
        "dataset_config": config,
        "split": split,
        "rows_fingerprint": rows_fingerprint(rows),
        "fivl_hf_version": __version__,
    }
