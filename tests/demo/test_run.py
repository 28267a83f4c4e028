import json

import pytest
from datasets import load_dataset

from fivl_hf.demo.run import run_demo


def test_demo_results_have_the_promised_shape(demo):
    results = json.loads((demo / "results.json").read_text())
    assert {"seed": 1, "steps": 3}.items() <= results.items()
    assert results["seconds"] > 0
    keys = {
        "accuracy",
        "masked_accuracy",
        "random_masked_accuracy",
        "visual_reliance_score",
        "random_reliance_score",
        "segmentation_iou",
        "best_head",
    }
    for name in ("baseline", "fivl"):
        assert keys <= results[name].keys()
        assert {"layer", "head", "score"} <= results[name]["best_head"].keys()


def test_demo_dataset_loads_by_its_name(demo, monkeypatch):
    monkeypatch.chdir(demo)
    dataset = load_dataset("fivl")
    assert {name: len(split) for name, split in dataset.items()} == {"train": 40, "validation": 6, "test": 8}


def test_demo_again_reuses_what_is_finished(demo, small_settings, capsys):
    marks = {path: path.stat().st_mtime_ns for path in demo.rglob("demo_stage.json")}
    assert len(marks) == 6
    run_demo(demo, small_settings)
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("demo_stage.json")} == marks
    assert capsys.readouterr().out.count("reused") == 4


def test_demo_repairs_a_stage_that_was_cut_short(demo, small_settings):
    (demo / "measurements" / "fivl" / "demo_stage.json").unlink()
    (demo / "measurements" / "fivl" / "answers.jsonl").unlink()
    run_demo(demo, small_settings)
    assert (demo / "measurements" / "fivl" / "answers.jsonl").exists()


def test_both_models_start_alike_and_see_the_same_rows(demo):
    logs = [json.loads((demo / "models" / name / "log.json").read_text()) for name in ("baseline", "fivl")]
    first = [log[0] for log in logs]
    assert first[0]["num_tokens"] == first[1]["num_tokens"]
    assert first[0]["loss"] == pytest.approx(first[1]["language_loss"], rel=1e-5)


def test_demo_leaves_other_folders_alone(tmp_path, small_settings):
    (tmp_path / "fivl").mkdir()
    (tmp_path / "fivl" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a demo's folder"):
        run_demo(tmp_path, small_settings)
    assert (tmp_path / "fivl" / "mine.txt").exists()
