"""Folders that are beside the package in a clone, and inside it after an install."""

from pathlib import Path

__all__ = ["installed_folder"]


def installed_folder(name: str) -> Path:
    """Return the folder ``"metrics"`` or ``"dataset_builders"``."""
    package = Path(__file__).parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
