"""Writing a file so that a reader sees the old one or the new one, never a part."""

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["write_atomically", "write_json"]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all; text is encoded as UTF-8.

    Raises:
        OSError: the file cannot be written, as on a full disk; an earlier file of that name is kept.
    """
    # The same name each time, so that what a killed process left is overwritten.
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people to read, completely or not at all.

    Raises:
        OSError: as :func:`write_atomically`.
        ValueError: NaN or infinity, which JSON does not have.
    """
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
