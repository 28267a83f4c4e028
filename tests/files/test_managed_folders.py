"""Folders in which only our own files are replaced, and everyone else's are kept."""

import pytest
from owned_folders import NEW, OLD, contents, write

from fivl_hf.files.managed_folders import LISTING, require_own_folder


def test_a_file_that_somebody_changed_is_kept(tmp_path):
    write(tmp_path / "set", OLD)
    (tmp_path / "set" / "README.md").write_text("old, with my notes")
    (tmp_path / "set" / "pictures" / "0.jpg").write_text("retouched")
    write(tmp_path / "set", NEW)
    write(tmp_path / "set", OLD)
    kept = {"README.yours-1.md": "old, with my notes", "pictures/0.yours-1.jpg": "retouched"}
    assert contents(tmp_path / "set") == {**OLD, **kept}


def test_an_error_leaves_what_was_there(tmp_path):
    for existed in (False, True):
        if existed:
            write(tmp_path / "set", OLD)
        with pytest.raises(IsADirectoryError):
            write(tmp_path / "set", {"README.md": "half", "data/x": "", "data": "a folder is in its place"})
        assert (tmp_path / "set").exists() == existed
    assert contents(tmp_path / "set") == OLD


def test_other_folders_are_refused(tmp_path, monkeypatch):
    trained = tmp_path / "model"
    trained.mkdir()
    (trained / "README.md").write_text("---\ntags:\n- fivl\n---\n")
    with pytest.raises(FileExistsError, match=r"model exists and is not a dataset of fivl-hf"):
        write(trained, OLD)
    with pytest.raises(FileExistsError, match="is not a folder"):
        write(trained / "README.md", OLD)
    write(tmp_path / "set", OLD)
    with pytest.raises(FileExistsError, match="holds a dataset of fivl-hf.*another folder for the evaluation"):
        require_own_folder(tmp_path / "set", "evaluation")
    monkeypatch.chdir(tmp_path / "set" / "data")
    with pytest.raises(FileExistsError, match="the folder you are in"):
        write(tmp_path / "set", NEW)
    assert contents(tmp_path / "set") == OLD


def test_an_empty_volume_is_written_inside(tmp_path):
    """A mount point cannot be renamed: it keeps its inode."""
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    inode = volume.stat().st_ino
    write(volume, OLD)
    write(volume, NEW)
    assert contents(volume) == NEW
    assert volume.stat().st_ino == inode


@pytest.mark.parametrize("entry", ["{", '{"kind": "dataset"}', '{"kind": "dataset", "files": {"../x": ["1 a"]}}'])
def test_a_damaged_list_is_not_believed(tmp_path, entry):
    write(tmp_path / "set", OLD)
    (tmp_path / "set" / LISTING).write_text(entry)
    with pytest.raises(FileExistsError, match="is damaged .*choose another folder"):
        write(tmp_path / "set", NEW)
    assert contents(tmp_path / "set") == OLD
