"""Pages served by a command, as users start them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["served"]


@contextmanager
def served(arguments: Sequence[Any], folder: Path, links: int = 1) -> Iterator[tuple[dict[str, str], Any]]:
    """Run a ``fivl`` command that serves a page; kill it at the end.

    Args:
        folder: for what it prints besides links.
        links: how many it prints.

    Yields:
        links by name, and the process.
    """
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HOME": str(folder / "hub")}
    command = [sys.executable, "-m", "fivl_hf", *map(str, arguments)]
    with (folder / "stderr.txt").open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    try:
        found: dict[str, str] = {}
        while len(found) < links:
            line = process.stdout.readline() if process.stdout else ""
            assert line or process.poll() is None, (folder / "stderr.txt").read_text()[-3000:]
            found.update(re.findall(r"(\S+): (http\S+)", line))
        yield found, process
    finally:
        process.kill()
        process.wait()
