"""Tables on disk, for joins and sets that may be larger than memory."""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fivl_hf.files.fingerprints import files_digest

__all__ = ["DiskTable", "create_index", "index_file", "open_index"]


def index_file(folder: Path, name: str, files: Iterable[Path]) -> Path:
    """Return where the index of files belongs: another place when they have changed, so that it is never stale."""
    return folder / f"{name}-{files_digest(files)}.sqlite"


@contextmanager
def create_index(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a new SQLite file to fill; it gets its name when it is complete.

    Raises:
        OSError: it cannot be written, as on a full disk.
    """
    # The same name each time, so that what a killed process left is overwritten.
    temporary = path.with_name(f"{path.name}.part")
    try:
        temporary.unlink(missing_ok=True)
        with closing(sqlite3.connect(temporary)) as table:
            yield table
            table.commit()
        os.replace(temporary, path)
    except sqlite3.Error as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def open_index(path: Path) -> sqlite3.Connection:
    """Return a complete index, for reading.

    Raises:
        OSError: it is damaged or missing.
    """
    try:
        table = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        table.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise OSError(f"{path} cannot be read: {error}; delete it, and the next run makes it again") from error
    return table


class DiskTable:
    """A dictionary in a temporary file that SQLite removes; for one thread at a time."""

    def __init__(self) -> None:
        # An empty name asks SQLite for a temporary file of its own; its cache stays at 2 MB.
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._rows.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._rows.execute("BEGIN")

    def __contains__(self, key: str) -> bool:
        return self._rows.execute("SELECT 1 FROM entries WHERE key = ?", (key,)).fetchone() is not None

    def get(self, key: str) -> Any:
        """Return the value of a key, None if there is none."""
        found = self._rows.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        return json.loads(found[0]) if found else None

    def put(self, key: str, value: Any = None) -> None:
        self._rows.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (key, json.dumps(value)))

    def fill(self, entries: Iterable[tuple[str, Any]]) -> "DiskTable":
        for key, value in entries:
            self.put(key, value)
        return self
