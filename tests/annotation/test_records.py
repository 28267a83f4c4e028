import json

import pytest

from fivl_hf.annotation.records import AnnotationFile, Entry, read_annotations


def filled(path):
    file = AnnotationFile(path)
    for field, value in [("mask", "yes"), ("expression", "no"), ("comment", "<b>ünclear"), ("example", "unsure")]:
        file.add("a/0", "d1", field, value)
    return file


def test_what_is_said_is_on_disk_at_once_and_read_back(tmp_path):
    path = tmp_path / "anna.jsonl"
    file = filled(path)
    assert len(path.read_text().splitlines()) == 4
    again = AnnotationFile(path)
    assert again.annotations == file.annotations
    said = again.annotations["a/0"]
    assert said.answers == {"mask": "yes", "expression": "no", "example": "unsure"}
    assert said.complete
    assert said.comment == "<b>ünclear"
    assert (said.drop, said.boxes, said.mask_png, said.text) == (False, None, None, None)


def test_undo_takes_back_one_entry_after_the_other_and_removes_no_line(tmp_path):
    file = filled(tmp_path / "anna.jsonl")
    assert file.undo().field == "example"
    assert not file.annotations["a/0"].complete
    assert file.undo().field == "comment"
    file.add("a/0", "d1", "example", "no")
    assert AnnotationFile(file.path).annotations["a/0"].answers["example"] == "no"
    for _ in range(3):
        file.undo()
    assert file.annotations == {}
    assert file.undo() is None
    assert len(file.path.read_text().splitlines()) == 10


def test_the_last_answer_counts_and_a_changed_item_starts_again(tmp_path):
    file = filled(tmp_path / "anna.jsonl")
    file.add("a/0", "d1", "mask", "no")
    assert file.annotations["a/0"].answers["mask"] == "no"
    file.add("a/0", "d2", "mask", "yes")
    assert file.annotations["a/0"].answers == {"mask": "yes"}
    assert file.annotations["a/0"].comment == ""


def test_fixes_can_be_taken_back(tmp_path):
    file = AnnotationFile(tmp_path / "anna.jsonl")
    for field, value in [("text", "car"), ("boxes", [[0, 0, 4.5, 4]]), ("mask_png", "aGk="), ("drop", True)]:
        file.add("a/0", "d", field, value)
    said = file.annotations["a/0"]
    assert (said.text, said.boxes, said.mask_bytes, said.drop) == ("car", [[0, 0, 4.5, 4]], b"hi", True)
    for field, value in [("text", ""), ("boxes", None), ("mask_png", ""), ("drop", False)]:
        file.add("a/0", "d", field, value)
    said = file.annotations["a/0"]
    assert (said.drop, said.boxes, said.mask_png, said.text) == (False, None, None, None)


def test_a_killed_write_costs_its_own_line_alone(tmp_path):
    file = filled(tmp_path / "anna.jsonl")
    file.path.write_bytes(file.path.read_bytes()[:-7])
    again = AnnotationFile(file.path)
    assert not again.annotations["a/0"].complete
    again.add("a/0", "d1", "example", "yes")
    assert AnnotationFile(file.path).annotations["a/0"].complete


def test_a_failed_write_changes_nothing(tmp_path):
    file = filled(tmp_path / "anna.jsonl")
    before = dict(file.annotations)
    file.path.rename(tmp_path / "kept")
    file.path.mkdir()  # what cannot be written to
    with pytest.raises(OSError):
        file.add("a/0", "d1", "mask", "no")
    with pytest.raises(OSError):
        file.undo()
    assert file.annotations == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mask", "maybe", "answered by yes, no, unsure"),
        ("mask", None, "answered by"),
        ("comment", "x" * 5001, "at most 5,000"),
        ("boxes", [[0, 0, "1", 4]], "four finite numbers"),
        ("boxes", [[0, 0, float("nan"), 4]], "four finite numbers"),
        ("mask_png", "%%%", "not base64"),
        ("drop", "yes", "true or false"),
        ("missed", ["a", 3], "a list of at most 100 texts"),
        ("admin", True, "no field 'admin'"),
    ],
)
def test_values_that_a_field_cannot_have(tmp_path, field, value, message):
    file = AnnotationFile(tmp_path / "anna.jsonl")
    with pytest.raises(ValueError, match=message):
        file.add("a/0", "d", field, value)
    assert not file.path.exists()


@pytest.mark.parametrize(
    "line", ['{"item": "a/0"}', "[]", '"x"', "{", '{"item": 3, "digest": "d", "field": "undo", "value": 1}']
)
def test_a_strange_line_is_named(tmp_path, line):
    path = tmp_path / "anna.jsonl"
    path.write_text(json.dumps(vars(Entry("a/0", "d", "mask", "yes"))) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=r"anna.jsonl, line 2, is not an entry of fivl annotate"):
        AnnotationFile(path)


def test_files_and_folders_are_read_together(tmp_path):
    filled(tmp_path / "anna.jsonl")
    (tmp_path / "study" / "annotators").mkdir(parents=True)
    filled(tmp_path / "study" / "annotators" / "ben.jsonl")
    read = read_annotations([tmp_path / "anna.jsonl", tmp_path / "study"])
    assert set(read["a/0"]) == {"anna", "ben"}
    with pytest.raises(ValueError, match="two annotation files have the name anna"):
        read_annotations([tmp_path / "anna.jsonl", tmp_path / "anna.jsonl"])
    with pytest.raises(FileNotFoundError, match="holds no annotations"):
        read_annotations([tmp_path / "nothing"])
