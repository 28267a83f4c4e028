import json

import pytest

from fivl_hf.files.results import changed_settings, read_settings, result_folder

FILES = ("result.json", "rows.jsonl")


def hold(output, run, **options):
    return result_folder(output, run, kind="evaluation", files=FILES, **options)


def test_a_run_goes_on_in_its_folder(tmp_path):
    with hold(tmp_path, {"model": "a"}):
        (tmp_path / "rows.jsonl").write_text("1\n")
    with hold(tmp_path, {"model": "a"}):
        assert (tmp_path / "rows.jsonl").read_text() == "1\n"
    assert json.loads((tmp_path / "evaluation.run.json").read_text()) == {"model": "a"}


def test_another_run_is_refused_or_replaces_what_is_there(tmp_path):
    with hold(tmp_path, {"model": "a", "limit": (1, 2)}):
        (tmp_path / "result.json").write_text("{}")
        (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="'a', now 'b'.*--restart to replace it"), hold(tmp_path, {"model": "b"}):
        pass
    with hold(tmp_path, {"model": "b"}, restart=True):
        assert not (tmp_path / "result.json").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_results_of_nobody_are_not_taken_over(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="holds result.json of an unknown run"), hold(tmp_path, {}):
        pass
    assert (tmp_path / "result.json").exists()


def test_changes_are_told_as_they_come_back_from_a_file():
    assert changed_settings({"limit": 3, "sizes": [1, 2]}, {"limit": 4, "sizes": (1, 2)}) == ["limit: 3, now 4"]
    assert changed_settings({}, {"new": 1}) == ["new: None, now 1"]
    assert changed_settings({"old": 1}, {}) == ["old: 1, now None"]


def test_damaged_settings_name_the_cure(tmp_path):
    (tmp_path / "run.json").write_text("[1")
    with pytest.raises(ValueError, match="use --restart to begin again"):
        read_settings(tmp_path / "run.json")
