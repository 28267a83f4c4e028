"""Folders of results: one process at a time, of one run only, and never half of one beside half of another."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fivl_hf.files.atomic import write_json
from fivl_hf.files.locks import locked

__all__ = ["result_folder"]


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
    with locked(output):
        note = output / f"{kind}.run.json"
        if restart:
            for name in (*files, note.name):
                (output / name).unlink(missing_ok=True)
        present = [name for name in files if (output / name).exists()]
        wanted = json.loads(json.dumps(run))
        if note.exists():
            _require_same(output, kind, _read(note), wanted)
        elif present:
            raise ValueError(
                f"{output} holds {present[0]} of an unknown run: choose another --output, or --restart to replace it"
            )
        write_json(note, wanted)
        yield


def _read(note: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{note} is damaged ({error}): use --restart to begin again") from error


def _require_same(output: Path, kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        shown = "; ".join(f"{key}: {before.get(key)!r}, now {now.get(key)!r}" for key in changed)
        raise ValueError(
            f"{output} holds the {kind} of another run ({shown}): choose another --output, or --restart to replace it"
        )
