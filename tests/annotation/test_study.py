import json
import subprocess
import sys
import threading

import pytest
from annotated import answer, study_of, study_of_items
from example_rows import change

from fivl_hf.annotation.items import draw_items, make_item
from fivl_hf.annotation.records import QUESTIONS
from fivl_hf.annotation.study import gold_annotations, gold_items, open_study, read_items, require_annotator_name
from fivl_hf.files.locks import FolderInUseError
from fivl_hf.storage import with_encoded_images


@pytest.fixture
def encoded_rows(dataset):
    return with_encoded_images(dataset)


def finish(study, name):
    """Answer everything; returns the items in their order."""
    keys = []
    while item := study.next_item(name):
        keys.append(item.key)
        answer(study, name, item.key, "yyy")
    return keys


def test_every_item_comes_once_to_everyone_and_a_restart_goes_on(tmp_path, encoded_rows):
    study = study_of(tmp_path, encoded_rows)
    first = study.next_item("anna")
    assert study.next_item("anna") == first  # not answered yet
    answer(study, "anna", first.key, "yn")
    answer(study, "anna", first.key, "yny")
    second = study.next_item("anna")
    study.record("anna", second.key, "mask", "yes")
    again = study_of(tmp_path, encoded_rows)
    assert again.links == study.links
    assert again.next_item("anna") == second
    assert again.annotation("anna", second.key).answers == {"mask": "yes"}
    assert again.progress("anna").done == 1
    assert again.progress("ben").done == 0
    assert len(finish(again, "anna")) == 5
    assert (again.progress("anna").done, again.progress("anna").total) == (6, 6)


@pytest.mark.parametrize("per_item", [1, 2])
def test_each_item_gets_so_many_annotators(tmp_path, encoded_rows, per_item):
    study = study_of(tmp_path, encoded_rows, ["anna", "ben", "cleo"], per_item=per_item)
    keys = []
    for _ in range(6):  # by turns
        for name in study.annotators:
            if item := study.next_item(name):
                keys.append(item.key)
                answer(study, name, item.key, "yyy")
    assert sorted(keys) == sorted(list(study.items) * per_item)
    assert all(study.progress(name).done == study.progress(name).total for name in study.annotators)


def test_an_item_that_somebody_looks_at_goes_to_another_only_when_nothing_else_is_left(tmp_path, encoded_rows):
    study = study_of(tmp_path, encoded_rows, per_item=1)
    held = study.next_item("anna")  # who leaves
    keys = finish(study, "ben")
    assert keys[-1] == held.key
    assert len(keys) == 6


def test_a_reload_shows_the_same_item_to_both_of_two(tmp_path, encoded_rows):
    study = study_of(tmp_path, encoded_rows, per_item=2)
    first = study.next_item("anna")
    assert study.next_item("ben") == first
    assert study.next_item("anna") == first


def test_undo_shows_the_item_again(tmp_path, encoded_rows):
    study = study_of(tmp_path, encoded_rows)
    first = study.next_item("anna")
    answer(study, "anna", first.key, "yyy")
    assert study.next_item("anna") != first
    assert study.undo("anna") == first
    assert study.next_item("anna") == first
    assert study.undo("ben") is None


def test_two_annotators_at_once_lose_nothing(tmp_path, encoded_rows):
    study = study_of(tmp_path, encoded_rows)
    threads = [threading.Thread(target=finish, args=(study, name)) for name in study.annotators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in study.annotators:
        lines = (tmp_path / "annotators" / f"{name}.jsonl").read_text().splitlines()
        said = [json.loads(line) for line in lines]
        assert len(said) == 6 * len(QUESTIONS)
        assert {each["item"] for each in said} == set(study.items)


def test_a_link_is_one_annotators_and_a_name_is_a_files(tmp_path, encoded_rows):
    study = study_of(tmp_path, encoded_rows)
    assert study.annotator_of(study.links["ben"]) == "ben"
    assert study.annotator_of("") is None
    assert study.annotator_of("x") is None
    assert study.annotator_of("kë") is None
    for name in ("", "../anna", "a/b", ".hidden", "x" * 65, "a,b"):
        with pytest.raises(ValueError, match="an annotator's name"):
            require_annotator_name(name)
    with pytest.raises(ValueError, match="no item 'zebra/0'"):
        study.record("anna", "zebra/0", "mask", "yes")


def test_items_that_changed_are_not_asked_and_their_answers_stay(tmp_path, encoded_rows, rows):
    items = draw_items(encoded_rows, sample=4)
    study = study_of_items(tmp_path, encoded_rows, items, ["anna"])
    finish(study, "anna")
    number = study.rows[items[0].key]
    changed_rows = [change(row, ("source",), "s") for row in rows]
    text = rows[number]["messages"][0]["content"] + "?"
    changed_rows[number] = change(rows[number], ("messages", 0, "content"), text)
    changed = with_encoded_images(type(encoded_rows).from_list(changed_rows, features=encoded_rows.features))
    again = study_of_items(tmp_path, changed, items, ["anna"])
    gone = [item.key for item in items if item.id == items[0].id]
    assert again.changed == gone
    assert again.next_item("anna") is None
    assert len((tmp_path / "annotators" / "anna.jsonl").read_text().splitlines()) == 12


def test_a_folder_is_one_studys_and_one_processs(tmp_path, encoded_rows):
    draws = []

    def opened(**options):
        run = {"sample": options.get("sample", 3)}

        def draw():
            draws.append(run)
            return draw_items(encoded_rows, sample=run["sample"])

        restart = options.get("restart", False)
        return open_study(tmp_path, encoded_rows, run, draw=draw, annotators=["anna"], restart=restart)

    with opened() as study:
        answer(study, "anna", next(iter(study.items)), "yyy")
    with opened() as study:
        assert study.progress("anna").done == 1
    assert len(draws) == 1
    with pytest.raises(ValueError, match="another run .sample: 3, now 4."), opened(sample=4):
        pass
    with opened(sample=4, restart=True) as study:
        # What was annotated counts for the new draw, too: the first three of it are the same.
        assert study.progress("anna").done == 1
    assert len(read_items(tmp_path)) == 4
    (tmp_path / "items.json").write_text("[{}]")
    with pytest.raises(ValueError, match="items.json is damaged"), opened(sample=4):
        pass


def test_a_second_server_is_told_who_is_there(tmp_path, encoded_rows):
    code = (
        "import sys, time; from pathlib import Path; from fivl_hf.files.locks import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        study = open_study(tmp_path, encoded_rows, {}, draw=list, annotators=["anna"])
        with pytest.raises(FolderInUseError, match="is in use by"), study:
            pass
        holder.kill()


def test_gold_items_are_an_experts_and_asked_of_everyone(tmp_path, encoded_rows):
    expert = study_of(tmp_path / "expert", encoded_rows, ["expert"])
    keys = list(expert.items)
    answer(expert, "expert", keys[0], "yny")
    answer(expert, "expert", keys[1], "y")  # not finished
    file = tmp_path / "expert" / "annotators" / "expert.jsonl"
    items = gold_items(encoded_rows, draw_items(encoded_rows, sample=6, seed=5), file)
    assert [each.key for each in items if each.gold] == keys[:1]
    run = {"gold": "x"}
    study = open_study(
        tmp_path / "s", encoded_rows, run, draw=lambda: items, annotators=["a", "b"], per_item=1, gold=file
    )
    with study as opened:
        assert keys[0] in finish(opened, "a")
        assert keys[0] in finish(opened, "b")
    assert gold_annotations(tmp_path / "s")[keys[0]].answers["expression"] == "no"
    assert gold_annotations(tmp_path) == {}


def test_gold_of_another_dataset_is_refused(tmp_path, encoded_rows, rows):
    expert = study_of_items(tmp_path, encoded_rows, [make_item(encoded_rows[0], 0)], ["expert"])
    file = tmp_path / "annotators" / "expert.jsonl"
    with pytest.raises(FileNotFoundError):
        gold_items(encoded_rows, [], tmp_path / "none.jsonl")
    answer(expert, "expert", next(iter(expert.items)), "yyy")
    other = type(encoded_rows).from_list([{**rows[1], "id": rows[0]["id"]}], features=encoded_rows.features)
    with pytest.raises(ValueError, match="looks different"):
        gold_items(with_encoded_images(other), [], file)
    elsewhere = type(encoded_rows).from_list([rows[1]], features=encoded_rows.features)
    with pytest.raises(ValueError, match="has no key expression"):
        gold_items(with_encoded_images(elsewhere), [], file)
