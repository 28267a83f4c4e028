"""Folders in which we write files beside other people's.

What we wrote is listed in the folder; only that is ever replaced or removed, and only as long as nobody has changed it.
Files are first written to a folder inside, so that a mount point can be the folder, and then moved to their places one
by one: the list names them before they are moved, and until the last one is moved the earlier files are still there.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from fivl_hf.files.atomic import write_atomically
from fivl_hf.files.fingerprints import exact_digest
from fivl_hf.files.json_stream import parse_json
from fivl_hf.files.locks import locked

__all__ = ["LISTING", "replaced_files", "require_own_folder", "work_folder"]

LISTING = ".fivl-files.json"
_SCRATCH, _WORK = ".fivl-writing", ".fivl-work"
# Larger files are known by their size: those that we write have a digest of their content in their name.
_HASHED_BYTES = 1_000_000
# What an empty volume may hold.
_EMPTY = ("lost+found",)

# Accepted fingerprints by file name; two while a file is being replaced.
Listing = dict[str, list[str]]


def work_folder(output: Path) -> Path:
    """Return the folder that keeps a run's shards, answers and settings: beside the output.

    In it if the output is a mount point: what is beside it is on another disk.
    """
    return output / _WORK if os.path.ismount(output) else output.with_name(f"{output.name}.work")


def require_own_folder(folder: Path, kind: str = "dataset") -> None:
    """Check that files of a kind may be written to ``folder``: it does not exist, is empty, or holds such files.

    Raises:
        FileExistsError: something else is there, or it is the current folder.
        PermissionError: it cannot be written to.
    """
    folder = folder.resolve()
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is not a folder; choose another one for the {kind}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to; choose another folder for the {kind}")
    if Path.cwd().resolve().is_relative_to(folder):
        raise FileExistsError(f"{folder} is the folder you are in; choose another one for the {kind}")
    listing = _read_listing(folder)
    if listing is not None and listing[0] != kind:
        raise FileExistsError(f"{folder} holds a {listing[0]} of fivl-hf; choose another folder for the {kind}")
    if listing is None and any(item.name not in _EMPTY and not _is_scratch(item) for item in folder.iterdir()):
        raise FileExistsError(
            f"{folder} exists and is not a {kind} of fivl-hf (it has no {LISTING}); choose another folder, or move "
            "what is in it"
        )


@contextmanager
def replaced_files(folder: Path, *, kind: str = "dataset", last: str) -> Iterator[Path]:
    """A scratch folder whose files become those of ``folder`` when the block ends without an error.

    Files of an earlier call that are not among them are removed. What other people put into the folder stays; a file of
    ours that they changed is kept under another name. Killed at any moment, the folder holds the earlier files or the
    new ones, and another call removes what is left over.

    Args:
        kind: what the files are; files of another kind are not replaced.
        last: the file that makes the others count (a dataset's README.md), moved after them.

    Raises:
        FileExistsError: as :func:`require_own_folder`.
        FolderInUseError: another process writes there.
        OSError: a file cannot be written; the earlier files are kept.
    """
    folder = folder.resolve()
    require_own_folder(folder, kind)
    new = not folder.exists()
    try:
        with locked(folder):
            scratch = folder / _SCRATCH
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            try:
                yield scratch
                _install(scratch, folder, kind, last)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except BaseException:
        if new:
            # Only if it is empty.
            with suppress(OSError):
                folder.rmdir()
        raise


def _install(scratch: Path, folder: Path, kind: str, last: str) -> None:
    names = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_file())
    new = {name: [_fingerprint(scratch / name)] for name in names}
    before = (_read_listing(folder) or (kind, {}))[1]
    # While files are moved, the list names the old and the new version of each: killed at any moment, what is there is
    # known to be ours, and the next call may replace it.
    both = {name: [*before.get(name, ()), *new.get(name, ())] for name in {**before, **new}}
    _write_listing(folder, kind, both)
    # The file that makes the others count comes last, so that a reader never finds it with half of its data.
    for name in sorted(names, key=lambda name: name == last):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(place) and not _is_listed(place, both[name]):
            # Copied, so that at no moment there is none of the name.
            _keep(place, _free_name(place))
        os.replace(scratch / name, place)
    for name in before.keys() - new.keys():
        place = folder / name
        if _is_listed(place, before[name]):
            place.unlink()
            _remove_empty(place.parent, folder)
    _write_listing(folder, kind, new)


def _is_listed(path: Path, fingerprints: list[str]) -> bool:
    """Return whether a file is one that we wrote, unchanged."""
    return path.is_file() and not path.is_symlink() and _fingerprint(path) in fingerprints


def _fingerprint(path: Path) -> str:
    size = path.stat().st_size
    digest = exact_digest([path])[:16] if size <= _HASHED_BYTES else ""
    return f"{size} {digest}"


def _keep(place: Path, name: Path) -> None:
    """Give what is at a place a second name: a file somebody changed, or a folder or link in our file's place."""
    if place.is_file() and not place.is_symlink():
        shutil.copy2(place, name)
    else:
        os.replace(place, name)


def _free_name(path: Path) -> Path:
    """Return an unused name beside ``path``, for a file that somebody changed."""
    number = 1
    while os.path.lexists(free := path.with_name(f"{path.stem}.yours-{number}{path.suffix}")):
        number += 1
    return free


def _remove_empty(directory: Path, folder: Path) -> None:
    while directory != folder and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent


def _is_scratch(path: Path) -> bool:
    """Return whether something in a folder without a list is left over from a process that was killed."""
    return path.name in (_SCRATCH, _WORK, f".{LISTING}.part") or path.name.lstrip("._").startswith("fivl.lock")


def _write_listing(folder: Path, kind: str, listing: Mapping[str, list[str]]) -> None:
    entry = {"kind": kind, "files": {name: listing[name] for name in sorted(listing)}}
    write_atomically(folder / LISTING, json.dumps(entry, indent=1))


def _read_listing(folder: Path) -> tuple[str, Listing] | None:
    """Return the kind of the files that we wrote, and their fingerprints; None if there is no list.

    Raises:
        FileExistsError: the list cannot be read, so that it is not known which files are ours.
    """
    path = folder / LISTING
    if not path.is_file():
        return None
    try:
        entry = parse_json(path.read_bytes())
        files = {str(name): list(map(str, known)) for name, known in entry["files"].items()}
        for path_in_folder in map(PurePosixPath, files):
            if path_in_folder.is_absolute() or ".." in path_in_folder.parts:
                raise ValueError(f"{path_in_folder} leaves the folder")
        return str(entry["kind"]), files
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileExistsError(
            f"{path} is damaged ({error}), so it is not known which files of {folder} may be replaced; choose another "
            "folder, or delete it after moving what you want to keep"
        ) from error
