"""A folder of ours in an earlier and a new state, and its files as anybody would see them."""

from collections.abc import Mapping
from pathlib import Path

from fivl_hf.files.managed_folders import LISTING, replaced_files

OLD = {"README.md": "old", "data/a-1.parquet": "a", "data/b-1.parquet": "b", "pictures/0.jpg": "p"}
NEW = {"README.md": "new", "data/a-1.parquet": "a", "data/c-2.parquet": "c"}


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Make these files those of the folder."""
    with replaced_files(folder, last="README.md") as scratch:
        for name, text in files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    """Read every file that anybody would see."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in sorted(found.items()) if name != LISTING}
