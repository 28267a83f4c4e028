"""Files that are written whole or not at all."""

import errno
import json
import os

import pytest

from fivl_hf.files.atomic import write_atomically, write_json


def test_text_bytes_and_json(tmp_path):
    write_atomically(tmp_path / "a", "é")
    write_atomically(tmp_path / "b", b"\xff")
    write_json(tmp_path / "c.json", {"λ": 0.1})
    assert [(tmp_path / name).read_bytes() for name in "ab"] == ["é".encode(), b"\xff"]
    assert json.loads((tmp_path / "c.json").read_text()) == {"λ": 0.1}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "c.json", float("nan"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c.json"]


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"a cannot be written: .*No space left"):
        write_atomically(tmp_path / "a", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]
