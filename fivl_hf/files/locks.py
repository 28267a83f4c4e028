"""One process at a time in a folder; whoever comes second learns who is there."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from fivl_hf.files.atomic import write_atomically

__all__ = ["FolderInUseError", "locked", "require_free"]

# Trainer's push_to_hub and `datasets` pass over names that begin with an underscore.
_LOCK, _HOLDER = "_fivl.lock", "_fivl.lock.json"


class FolderInUseError(OSError):
    """Another process writes to the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it does not exist; a killed process leaves it free.

    Raises:
        FolderInUseError: it is held already; the message says by which process, and since when.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = folder / _LOCK, folder / _HOLDER
    try:
        acquired = FileLock(lock, timeout=0).acquire()
    except Timeout as error:
        raise FolderInUseError(
            f"{folder} is in use by {_holder(holder)}. Wait until it has finished, or choose another folder."
        ) from error
    with acquired:
        try:
            write_atomically(holder, json.dumps(_this_process()))
            yield
        finally:
            holder.unlink(missing_ok=True)
            # Unlinked while it is held: whoever waits for this file tries again with a new one.
            with suppress(OSError):
                lock.unlink(missing_ok=True)


def require_free(folder: Path) -> None:
    """Check before long work that its results could be written to ``folder``. Raises as :func:`locked`."""
    with locked(folder):
        pass


def _this_process() -> dict[str, str | int]:
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().isoformat(sep=" ", timespec="seconds"),
    }


def _holder(path: Path) -> str:
    """The process that wrote ``path``, for a message."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        return f"`{entry['command']}` (process {entry['pid']} on {entry['host']}, since {entry['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
