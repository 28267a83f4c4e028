"""Whole runs: shards, resuming, engines, budgets, and what goes wrong."""

import json
from functools import partial

import pytest
from scene_runs import SCENES, names_the_thing, rows, scenes, whole_image

from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.pipeline import ExtractionSettings, RunSettings, run_augmentation
from fivl_hf.files.managed_folders import work_folder


def test_the_folder_is_ready_for_load_dataset_and_reports(scene_run, tmp_path):
    output = tmp_path / "fivl"
    run_augmentation(scenes(10), SCENES, RunSettings(output))
    assert rows(output) == scene_run[:10]
    report = json.loads((output / "report.json").read_text())
    assert report["tally"] == {"read": 10, "kept": 10, "dropped": {}, "failed": {}}
    assert sum(report["mask_coverage"]["counts"]) == 20
    assert report["expressions_per_turn"] == {"1": 20}
    page = (output / "report.html").read_text()
    assert page.count("data:image/jpeg") == 10
    assert "10 FiVL rows from 10 samples" in page


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "fivl").mkdir()
    (tmp_path / "fivl" / "thesis.tex").write_text("!")
    with pytest.raises(FileExistsError, match="not a dataset of fivl-hf"):
        run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl"))
    assert not work_folder(tmp_path / "fivl").exists()


def test_what_people_put_beside_the_dataset_stays(tmp_path):
    run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl"))
    (tmp_path / "fivl" / "notes.txt").write_text("mine")
    run_augmentation(scenes(6), SCENES, RunSettings(tmp_path / "fivl"))
    assert (tmp_path / "fivl" / "notes.txt").read_text() == "mine"
    assert len(rows(tmp_path / "fivl")) == 6
    with pytest.raises(ValueError, match="split: 'train', now 'test'"):
        run_augmentation(scenes(6), SCENES, RunSettings(tmp_path / "fivl", split="test"))


def test_a_language_model_gives_the_same_rows_as_noun_phrases(scene_run, tmp_path, serve, settings):
    server = serve(names_the_thing)
    extraction = ExtractionSettings(settings(server), tmp_path / "answers.sqlite")
    run = partial(run_augmentation, scenes(70), SCENES, extraction=extraction)
    result = run(RunSettings(tmp_path / "fivl", shard_size=8))
    assert rows(tmp_path / "fivl") == scene_run
    assert set(server.asked.values()) == {1}
    again = run(RunSettings(tmp_path / "fivl", shard_size=8, restart=True))
    assert (again.spent.requests, again.spent.cached) == (0, 140)
    assert result.spent.requests == len(server.asked)


def test_a_image_that_was_corrected_is_made_again(photos):
    folder, read = photos
    make = partial(run_augmentation, factory=whole_image, settings=RunSettings(folder / "fivl", shard_size=4))
    make(read("car", 8))
    path = folder / "mix.json"
    path.write_text(path.read_text().replace("b.jpg", "a.jpg"))
    source = partial(read_conversations, InputSettings(str(path), images=(folder,)))
    assert make(source).tally.kept == 8


def test_no_row_at_all_says_why(tmp_path):
    with pytest.raises(ValueError, match="none of 0 samples became a row: the input is empty"):
        run_augmentation(lambda: iter(()), SCENES, RunSettings(tmp_path / "fivl"))
