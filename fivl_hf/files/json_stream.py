"""Reading large JSON files piece by piece, so that memory does not grow with the file.

Files are UTF-8, or what their byte-order mark says.
"""

import codecs
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Union

import numpy as np

__all__ = ["json_items", "json_lines", "json_members", "leading_events", "marked_encoding", "parse_json"]

# UTF-32's marks begin with UTF-16's.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MAX_LINE_BYTES = 50_000_000
MAX_DEPTH = 200
_PIECE = 1 << 16
# A pair of surrogates, half of one, or any other escape, which may be of a backslash.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
_HIGH_HALF = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_NO_MARK = bytes(set(range(256)) - set(b'"[]{}'))
_STEPS = np.zeros(256, dtype=np.int8)
_STEPS[[ord("["), ord("{")]], _STEPS[[ord("]"), ord("}")]] = 1, -1


def json_items(path: Path, prefix: str) -> Iterator[Any]:
    """Return the items of a list inside a JSON file; ``prefix`` as ijson writes it: ``"item"`` for the top level's.

    Raises:
        ValueError: not valid JSON, naming the file and how far it was read.
    """
    ijson = _ijson()
    return _checked(path, lambda file: ijson.items(file, prefix, use_float=True))


def json_members(path: Path) -> Iterator[tuple[str, Any]]:
    """Return keys and values of a JSON file's top-level object. Raises as :func:`json_items`."""
    ijson = _ijson()
    return _checked(path, lambda file: ijson.kvitems(file, "", use_float=True))


def leading_events(path: Path, count: int) -> list[tuple[str, str, Any]]:
    """Return the first parsing events of a JSON or JSON Lines file (prefix, event, value), to tell formats apart.

    Raises:
        ValueError: it does not begin with valid JSON.
    """
    ijson = _ijson()
    events: list[tuple[str, str, Any]] = []
    try:
        for event in _checked(path, lambda file: ijson.parse(file, use_float=True, multiple_values=True)):
            events.append(event)
            if len(events) == count:
                break
    except ValueError:
        # What comes later may be broken: whoever reads the file says so.
        if not events:
            raise
    return events


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield line numbers (from 1) and values of a JSON Lines file; the value of a broken line is a ValueError."""
    with _opened(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if not line.strip():
                continue
            try:
                yield number, parse_json(line)
            except UnicodeDecodeError as error:
                yield number, ValueError(f"not UTF-8: {error}; save the file as UTF-8")
            except ValueError as error:
                yield number, ValueError(f"not valid JSON: {error}")


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON value, and replace halves of surrogate pairs, which JSON can spell and no file can hold.

    Raises:
        ValueError: not valid JSON, or nested too deeply.
    """
    half = "\\ud" if isinstance(text, str) else b"\\ud"
    try:
        value = json.loads(text)
        return _whole(value) if half in text.lower() else value  # type: ignore[operator]
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def _checked(path: Path, parse: Any) -> Iterator[Any]:
    """Yield what a streaming parser yields, its errors naming the file and the place."""
    from ijson.common import JSONError

    with _opened(path) as opened:
        file = _Guarded(opened, path)
        items, count = parse(file), 0
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except (JSONError, UnicodeDecodeError) as error:
                said = error.args[0] if error.args else ""
                reason = " ".join((said.decode(errors="replace") if isinstance(said, bytes) else str(error)).split())
                place = f"after {count} items, before byte {file.tell():,}"
                if isinstance(error, UnicodeDecodeError) or "UTF8" in reason:
                    raise ValueError(f"{path} is not UTF-8 {place}; save it as UTF-8") from error
                raise ValueError(f"{path} is not valid JSON {place}: {reason[:200]}") from error
            count += 1
            yield item


def marked_encoding(path: Path) -> str | None:
    """Return the encoding that a file's byte-order mark says, such as "utf-16"; None without one."""
    with path.open("rb") as file:
        return _marked(file.read(4))


def _marked(start: bytes) -> str | None:
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file to be read as UTF-8 without a byte-order mark, whatever mark it has.

    Raises:
        ValueError: it has none and looks like UTF-16 or UTF-32.
    """
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        encoding = _marked(start)
        if encoding is None and b"\0" in start:
            raise ValueError(f"{path} is not UTF-8: it holds zero bytes; save it as UTF-8")
        yield file if encoding is None else _Decoded(file, encoding)  # type: ignore[misc]


class _Guarded:
    """A JSON file made safe for a parser: not nested deeper than ``MAX_DEPTH``, without halves of surrogate pairs.

    A parser's memory grows with the square of the depth, and it refuses a whole file for one half of a pair. Only
    these methods: a parser would prefer ``readinto`` and bypass the checks.
    """

    def __init__(self, file: Union[IO[bytes], "_Decoded"], path: Path) -> None:
        self._file, self._path = file, path
        self._depth, self._in_text, self._escape = 0, 0, b""
        self._held = b""

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        whole = self._held + data
        # An escape that may go on in the next piece is held back; the file's end is told by an empty piece.
        cut = _escape_start(whole) if data else len(whole)
        whole, self._held = whole[:cut], whole[cut:]
        if data and not whole:
            return self.read(count)
        if b"\\u" in whole:
            whole = _ESCAPES.sub(_whole_pair, whole)
        for start in range(0, len(whole), _PIECE):
            self._count(whole[start : start + _PIECE])
        return whole

    def tell(self) -> int:
        return self._file.tell()

    def _count(self, piece: bytes) -> None:
        """Follow the depth through a piece of the file: without escapes, every second quote ends a text."""
        piece = self._escape + piece
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        self._escape = b"\\" * (backslashes % 2)
        # Escaped backslashes first: one that is left escapes what follows.
        marks = piece.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_MARK)
        found = np.frombuffer(marks, dtype=np.uint8)
        quotes = found == ord('"')
        in_text = np.bitwise_xor(np.cumsum(quotes, dtype=np.uint8) & 1, self._in_text)
        depths = self._depth + np.cumsum(_STEPS[found] * (1 - in_text.astype(np.int8)), dtype=np.int32)
        if len(depths):
            if depths.max() > MAX_DEPTH:
                raise ValueError(f"{self._path} is nested deeper than {MAX_DEPTH} levels: this cannot be a dataset")
            self._depth, self._in_text = int(depths[-1]), int(in_text[-1])


def _escape_start(data: bytes) -> int:
    """Find the start of the last escapes that more bytes could complete; a surrogate pair has twelve."""
    start = data.find(b"\\", max(0, len(data) - 12))
    if start < 0:
        return len(data)
    while True:
        while start and data[start - 1] == ord("\\"):
            start -= 1
        if not _HIGH_HALF.fullmatch(data[max(0, start - 6) : start]):
            return start
        start -= 6


def _whole_pair(escape: "re.Match[bytes]") -> bytes:
    """Return an escape as it is, or a question mark in place of half a surrogate pair."""
    return b"?" if escape["half"] else escape[0]


class _Decoded:
    """A file in another encoding, read as UTF-8.

    Only these methods: a parser would prefer ``readinto``.
    """

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file, self._text = file, io.TextIOWrapper(file, encoding, newline="\n")

    def read(self, count: int = -1) -> bytes:
        return self._text.read(count).encode()

    def readline(self, count: int = -1) -> bytes:
        return self._text.readline(count).encode()

    def tell(self) -> int:
        return self._file.tell()


def _ijson() -> Any:
    try:
        import ijson
    except ImportError as error:
        raise ImportError("reading JSON inputs piece by piece needs `pip install fivl-hf[augment]`") from error
    return ijson
