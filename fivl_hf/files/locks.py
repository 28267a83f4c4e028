"""One process at a time in a folder; whoever comes second learns who is there."""

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from fivl_hf.files.atomic import write_atomically

__all__ = ["FolderInUseError", "locked"]

# Trainer's push_to_hub and `datasets` pass over names that begin with an underscore.
_LOCK, _HOLDER = "_fivl.lock", "_fivl.lock.json"
# Process, thread and folder of the locks that are held: a forked child holds none.
_held: set[tuple[int, int, Path]] = set()


class FolderInUseError(OSError):
    """Another process writes to the folder."""


@contextmanager
def locked(folder: Path, *, reentrant: bool = False) -> Iterator[None]:
    """Hold a folder, which is made if it does not exist; a killed process leaves it free.

    Args:
        reentrant: do nothing if this thread holds the folder already, as when a command that holds its output from the
            start calls a function that holds it for itself.

    Raises:
        FolderInUseError: it is held already; the message says by which process, and since when.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = (os.getpid(), threading.get_ident(), folder.resolve())
    if reentrant and key in _held:
        yield
        return
    lock, holder = folder / _LOCK, folder / _HOLDER
    try:
        acquired = FileLock(lock, timeout=0).acquire()
    except Timeout as error:
        raise FolderInUseError(
            f"{folder} is in use by {_holder(holder)}. Wait until it has finished, or choose another folder."
        ) from error
    with acquired:
        _held.add(key)
        try:
            write_atomically(holder, json.dumps(_this_process()))
            yield
        finally:
            _held.discard(key)
            holder.unlink(missing_ok=True)
            # Unlinked while it is held: whoever waits for this file tries again with a new one.
            with suppress(OSError):
                lock.unlink(missing_ok=True)


def _this_process() -> dict[str, str | int]:
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().isoformat(sep=" ", timespec="seconds"),
    }


def _holder(path: Path) -> str:
    """Return the process that wrote ``path``, for a message."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        return f"`{entry['command']}` (process {entry['pid']} on {entry['host']}, since {entry['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
