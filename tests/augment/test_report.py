from scene_runs import SCENES, scenes

from fivl_hf.augment.pipeline import RunSettings, run_augmentation
from fivl_hf.files.managed_folders import work_folder
from fivl_hf.jobs.shards import read_report


def test_reports_survive_being_written(tmp_path):
    run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl"))
    report = read_report(work_folder(tmp_path / "fivl") / "shards", 0)
    assert report.tally.kept == 4
    assert report.counts["expressions per turn"] == {"1": 8}
    assert read_report(tmp_path, 0) is None
