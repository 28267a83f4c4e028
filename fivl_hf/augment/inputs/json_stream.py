"""Reading large JSON files piece by piece, so that memory does not grow with the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

__all__ = ["json_items", "json_lines", "json_members", "leading_events", "parse_json"]

_BOM = b"\xef\xbb\xbf"
MAX_LINE_BYTES = 50_000_000


def json_items(path: Path, prefix: str) -> Iterator[Any]:
    """The items of a list inside a JSON file; ``prefix`` as ijson writes it: ``"item"`` for the top level's.

    Raises:
        ValueError: no valid JSON, naming the file and how far it was read.
    """
    ijson = _ijson()
    return _checked(path, lambda file: ijson.items(file, prefix, use_float=True))


def json_members(path: Path) -> Iterator[tuple[str, Any]]:
    """Keys and values of a JSON file's top-level object. Raises as :func:`json_items`."""
    ijson = _ijson()
    return _checked(path, lambda file: ijson.kvitems(file, "", use_float=True))


def leading_events(path: Path, count: int) -> list[tuple[str, str, Any]]:
    """The first parsing events of a JSON or JSON Lines file (prefix, event, value), to tell formats apart.

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
    """Line numbers (from 1) and values of a JSON Lines file; a line that is no valid JSON gives its ValueError."""
    with path.open("rb") as file:
        _skip_bom(file)
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if not line.strip():
                continue
            try:
                yield number, parse_json(line)
            except ValueError as error:
                yield number, ValueError(f"no valid JSON: {error}")


def parse_json(text: str | bytes) -> Any:
    """A JSON value whose texts can be written anywhere: halves of surrogate pairs, which JSON can spell, are replaced.

    Raises:
        ValueError: no valid JSON, or nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    half = "\\ud" if isinstance(text, str) else b"\\ud"
    return _whole(value) if half in text.lower() else value  # type: ignore[operator]


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def _checked(path: Path, parse: Any) -> Iterator[Any]:
    """What a streaming parser yields, its errors naming the file and the place."""
    from ijson.common import JSONError

    with path.open("rb") as file:
        _skip_bom(file)
        items, count = parse(file), 0
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except (JSONError, UnicodeDecodeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"{path} is no valid JSON after {count} items, before byte {file.tell():,}: {reason}"
                ) from error
            count += 1
            yield item


def _skip_bom(file: IO[bytes]) -> None:
    if file.read(len(_BOM)) != _BOM:
        file.seek(0)


def _ijson() -> Any:
    try:
        import ijson
    except ImportError as error:
        raise ImportError("reading JSON inputs piece by piece needs `pip install fivl-hf[augment]`") from error
    return ijson
