"""A tar archive read where it lies: indexed once, members fetched by offset, nothing extracted.

The archive is untrusted. Sizes in its headers are only believed within limits, names that leave the archive are
refused, and links and devices are passed over.

``tarfile``, even with a header class of our own, cannot be used: it reads long-name headers of any size into memory,
recurses once for each of several in a row until Python's stack is full, and stops at a header with a false size.
"""

import os
import sqlite3
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from fivl_hf.files.disk_table import open_index

__all__ = ["ArchiveReader", "index_archive"]

_BLOCK = 512
_MAX_NAME = 4_096
# Images and tensors of single masks are far smaller; a header that claims more is not believed.
MAX_MEMBER = 64_000_000


@dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size: int


def index_archive(
    path: Path,
    table: sqlite3.Connection,
    *,
    wanted: Callable[[str], bool],
    progress: Callable[[int], None] = lambda _: None,
) -> Counter[str]:
    """Fill ``members (name, offset, size)`` with the files of an uncompressed tar archive.

    Args:
        wanted: whether a file of this name is indexed.
        progress: called with the bytes passed since the last call.

    Returns:
        How many entries were passed over, by reason.

    Raises:
        ValueError: no tar archive, a compressed one, or one that is cut off.
    """
    refused: Counter[str] = Counter()
    table.execute("CREATE TABLE members (name TEXT PRIMARY KEY, offset INT, size INT) WITHOUT ROWID")
    with path.open("rb") as file:
        _require_tar(path, file)
        rows = (
            (member.name, member.offset, member.size)
            for member in _members(file, refused, progress)
            if wanted(member.name)
        )
        # As in tar itself, a later file of the same name counts.
        table.executemany("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", rows)
    return refused


class ArchiveReader:
    """Fetches members of an indexed archive by name.

    Args:
        index: SQLite file with the table that :func:`index_archive` filled.
    """

    def __init__(self, path: Path, index: Path) -> None:
        self._table = open_index(index)
        self._file = path.open("rb")

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def read(self, name: str) -> bytes:
        """Return the bytes of a member; raises KeyError if there is none of that name."""
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        return os.pread(self._file.fileno(), found[1], found[0])

    def _find(self, name: str) -> tuple[int, int] | None:
        query = "SELECT offset, size FROM members WHERE name = ?"
        found: tuple[int, int] | None = self._table.execute(query, (_plain_name(name),)).fetchone()
        return found


def _require_tar(path: Path, file: IO[bytes]) -> None:
    first = file.read(_BLOCK)
    file.seek(0)
    try:
        tarfile.TarInfo.frombuf(first, "utf-8", "replace")
    except tarfile.HeaderError as error:
        kind = "compressed: unpack it to a plain .tar first" if first[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7") else error
        raise ValueError(f"{path} is not a plain tar archive ({kind})") from error


def _members(file: IO[bytes], refused: Counter[str], progress: Callable[[int], None]) -> Iterator[_Member]:
    """Yield the regular files of an archive, in order."""
    end = os.fstat(file.fileno()).st_size
    offset, closed, cut = 0, False, False
    long_name: str | None = None
    while offset + _BLOCK <= end:
        block = os.pread(file.fileno(), _BLOCK, offset)
        start = offset + _BLOCK
        closed = not any(block)
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.HeaderError:
            # The end's empty blocks, or what follows a header that was not believed.
            progress(_BLOCK)
            offset = start
            continue
        # Members after one that reaches past the end: it lied, the archive goes on.
        cut = False
        stored = header.size if header.isreg() or header.type in _EXTENSIONS else 0
        if stored < 0 or stored > MAX_MEMBER or start + stored > end:
            refused["a header that claims more than there can be"] += 1
            cut = 0 <= stored <= MAX_MEMBER
            stored, long_name = 0, None
        elif header.type in _EXTENSIONS:
            long_name = _long_name(file, header, start) or long_name
        else:
            name, long_name = long_name or header.name, None
            if problem := _problem(name, header):
                refused[problem] += 1
            elif header.isreg():
                yield _Member(_plain_name(name), start, header.size)
        following = start + -(-stored // _BLOCK) * _BLOCK
        progress(following - offset)
        offset = following
    if cut or not closed:
        raise ValueError(f"{file.name} is cut off: it has no end mark after {end:,} bytes; download it again")


_EXTENSIONS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)


def _long_name(file: IO[bytes], header: tarfile.TarInfo, start: int) -> str | None:
    """Return the name that a GNU or pax header gives to the entry after it."""
    if header.size > 16 * _MAX_NAME or header.type in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
        return None
    data = os.pread(file.fileno(), header.size, start)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "replace")
    # pax: lines of "length key=value".
    for line in data.split(b"\n"):
        key, _, value = line.partition(b" ")[2].partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "replace")
    return None


def _problem(name: str, header: tarfile.TarInfo) -> str | None:
    """Return why an entry is passed over; None for files and folders."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or len(name) > _MAX_NAME:
        return "a name that leaves the archive"
    return None if header.isreg() or header.isdir() else "neither a file nor a folder"


def _plain_name(name: str) -> str:
    return str(PurePosixPath(name))
