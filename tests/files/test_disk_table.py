import os

import pytest

from fivl_hf.files.disk_table import DiskTable, create_index, index_file, open_index


def test_a_table_is_a_dictionary():
    table = DiskTable().fill([("a", [1, 2]), ("b", None)])
    table.put("a", {"x": "ü"})
    assert table.get("a") == {"x": "ü"}
    assert "b" in table and table.get("b") is None
    assert "c" not in table and table.get("c") is None


def test_an_index_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "index.sqlite"
    with pytest.raises(OSError, match="no such table"), create_index(path) as table:
        table.execute("INSERT INTO names VALUES ('a')")
    assert list(tmp_path.iterdir()) == []
    with create_index(path) as table:
        table.execute("CREATE TABLE names (name TEXT)")
        table.execute("INSERT INTO names VALUES ('a')")
        assert not path.exists()
    assert open_index(path).execute("SELECT name FROM names").fetchall() == [("a",)]
    assert list(tmp_path.iterdir()) == [path]


def test_an_index_belongs_to_its_files(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("1")
    before = index_file(tmp_path, "a", [file])
    assert index_file(tmp_path, "a", [file]) == before
    os.utime(file, (1, 1))
    assert index_file(tmp_path, "a", [file]) != before


def test_a_damaged_index_names_the_cure(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(b"SQLite? no" * 200)
    for name in ("x.sqlite", "missing.sqlite"):
        with pytest.raises(OSError, match=f"{name} cannot be read.*delete it, and the next run makes it again"):
            open_index(tmp_path / name)


def test_what_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "index.sqlite.part").mkdir()
    with pytest.raises(OSError), create_index(tmp_path / "index.sqlite"):
        pass
