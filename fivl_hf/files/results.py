"""Folders of results: one process at a time, of one run only, and never half of one beside half of another."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fivl_hf.files.atomic import write_json
from fivl_hf.files.json_stream import parse_json
from fivl_hf.files.locks import locked

__all__ = ["changed_settings", "read_settings", "result_folder"]


@contextmanager
def result_folder(
    output: Path, run: Mapping[str, Any], *, kind: str, files: Sequence[str], restart: bool = False
) -> Iterator[None]:
    """Hold a folder for a run that may have been interrupted there before.

    Args:
        run: what decides the results; it is kept in ``KIND.run.json``.
        kind: such as "evaluation".
        files: what the run writes, the file that makes it complete first.
        restart: remove what another run wrote.

    Raises:
        FolderInUseError: another process writes there.
        ValueError: the folder holds results of another run.
        OSError: the folder cannot be written to.
    """
    with locked(output, reentrant=True):
        note = output / f"{kind}.run.json"
        if restart:
            for name in (*files, note.name):
                (output / name).unlink(missing_ok=True)
        present = [name for name in files if (output / name).exists()]
        if note.exists():
            _require_same(output, kind, read_settings(note), run)
        elif present:
            raise ValueError(
                f"{output} holds {present[0]} of an unknown run: choose another --output, or --restart to replace it"
            )
        write_json(note, run)
        yield


def read_settings(
    file: Path, cure: str = "so it is not known whose run this is: use --restart to begin again"
) -> dict[str, Any]:
    """Read the settings that a run has kept.

    Args:
        cure: what the user can do about a damaged file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        settings = parse_json(file.read_bytes())
        if not isinstance(settings, dict):
            raise ValueError(f"it holds {type(settings).__name__}, not an object")
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}), {cure}") from error
    return settings


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ: "limit: 3, now 4"; ``now`` is compared as it comes back from a JSON file."""
    now = json.loads(json.dumps(now))
    return [
        f"{key}: {before.get(key)!r}, now {now.get(key)!r}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]


def _require_same(output: Path, kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if changes := changed_settings(before, now):
        shown = "; ".join(changes)
        raise ValueError(
            f"{output} holds the {kind} of another run ({shown}): choose another --output, or --restart to replace it"
        )
