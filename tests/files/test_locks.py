"""One process at a time in a folder."""

import json
import subprocess
import sys

import pytest

from fivl_hf.files.locks import FolderInUseError, locked

HOLD = """
import sys, time
from pathlib import Path
from fivl_hf.files.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_learns_who_was_first(tmp_path):
    folder = tmp_path / "out"
    holder = hold(folder)
    try:
        with pytest.raises(FolderInUseError, match=rf"process {holder.pid} on .*, since 20\d\d-"), locked(folder):
            pass
    finally:
        holder.kill()
        holder.wait()
    # A killed process holds nothing.
    with locked(folder):
        with pytest.raises(FolderInUseError, match="in use by"), locked(folder):
            pass
        assert json.loads((folder / "_fivl.lock.json").read_text())["pid"]
    assert list(folder.iterdir()) == []


def test_a_lock_is_let_go_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    with locked(tmp_path):
        pass
