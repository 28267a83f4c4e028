"""JSON Lines files to which entries are appended as they come; a kill costs at most the last line."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from fivl_hf.files.json_stream import parse_json

__all__ = ["AppendedLines"]

Entry = TypeVar("Entry")


class AppendedLines(Generic[Entry]):
    """The entries of a file, which need not exist yet.

    Args:
        kind: what a line is, for messages, such as "an answer of fivl evaluate".
        read: makes an entry of a line's JSON value; raises ValueError, TypeError or KeyError for something else.
        write: makes a JSON value of an entry.
        finished: the file is not being written: a last line without its line break is a line like the others.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        *,
        read: Callable[[Any], Entry],
        write: Callable[[Entry], dict[str, Any]],
        finished: bool = False,
    ) -> None:
        self.path, self._finished = path, finished
        self._kind, self._read, self._write = kind, read, write

    def __iter__(self) -> Iterator[Entry]:
        """Read the entries in the order of their writing, except for a last line that was cut off.

        Raises:
            ValueError: a line that is something else, with its number.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n") and not self._finished:
                    return
                try:
                    entry = self._read(parse_json(line))
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    raise ValueError(f"{self.path}, line {number}, is not {self._kind}: {error}") from error
                yield entry

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries at the end, in place of a last line that was cut off.

        Raises:
            OSError: the file cannot be written; what was appended before is kept.
        """
        lines = "".join(json.dumps(self._write(entry), ensure_ascii=False) + "\n" for entry in entries)
        self.path.touch()
        with self.path.open("rb+") as file:
            file.truncate(_last_newline(file))
            file.seek(0, 2)
            file.write(lines.encode())


def _last_newline(file: Any) -> int:
    """Return the length of a file without a last line that was cut off."""
    end = int(file.seek(0, 2))
    while end:
        # Lines are short beside this.
        start = max(0, end - (1 << 16))
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + int(newline) + 1
        end = start
    return 0
