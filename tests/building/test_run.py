import pytest
from builder_sources import coco_name, pope

from fivl_hf.cli.main import main
from fivl_hf.storage import load_rows


def test_unknown_split_and_builder(build, tmp_path, capsys):
    with pytest.raises(ValueError, match="no split 'test' to build; there are adversarial, popular, random"):
        build("fivl_pope", tmp_path / "out", **pope(tmp_path), splits=("test",))
    assert main(["build", "fivl_x", "--output", str(tmp_path / "out")]) == 1
    assert "no builder named 'fivl_x'; there are fivl_gqa, fivl_instruct" in capsys.readouterr().err


def test_command_builds_and_goes_on(tmp_path, capsys):
    pope(tmp_path)
    command = ["build", "fivl_pope", "--data-dir", str(tmp_path), "--output", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 0
    assert "18 read = 18 kept" in capsys.readouterr().out
    assert main(command) == 0
    assert main([*command, "--max-coverage", "0.01"]) == 1
    assert "other settings (max_coverage" in capsys.readouterr().err
    assert main([*command, "--max-coverage", "0.01", "--restart"]) == 0
    assert not any(row["key_expressions"] for row in load_rows(tmp_path / "out", "random"))


def test_a_full_disk_while_indexing_is_said(build, tmp_path, monkeypatch):
    import sqlite3

    import fivl_hf.augment.grounders.annotations as annotations

    def full(path):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(annotations, "_file_objects", full)
    with pytest.raises(OSError, match="cannot be written: database or disk is full"):
        build("fivl_pope", tmp_path / "out", **pope(tmp_path))
    assert not list((tmp_path / "out.work").glob("annotations*"))


def test_the_folder_one_is_in_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for output in (".", ".."):
        assert main(["build", "fivl_scenes", "--limit", "2", "--workers", "1", "--output", output]) == 1
        assert "is the folder you are in" in capsys.readouterr().err


def test_changed_images_are_read_anew_and_work_is_no_dataset(build, tmp_path):
    import datasets

    options = pope(tmp_path)
    build("fivl_pope", tmp_path / "out", **options)
    for folder in (tmp_path / "out.work", tmp_path / "out.work" / "shards"):
        with pytest.raises((datasets.exceptions.DatasetsError, FileNotFoundError)):
            datasets.load_dataset(str(folder))
    image = tmp_path / "val2014" / coco_name(0)
    other = (tmp_path / "val2014" / coco_name(1)).read_bytes()
    image.write_bytes(other)
    build("fivl_pope", tmp_path / "out", **options)
    assert load_rows(tmp_path / "out", "random")[0]["images"][0]["bytes"] == other
