import pytest
from scene_runs import SCENES, rows, scenes

from fivl_hf.augment.pipeline import RunSettings, run_augmentation
from fivl_hf.jobs.engines import LocalEngine, RayEngine


@pytest.mark.parametrize("engine", [LocalEngine(2), RayEngine(2)], ids=["2 processes", "Ray"])
def test_all_engines_give_the_same_rows(scene_run, tmp_path, engine):
    result = run_augmentation(scenes(70), SCENES, RunSettings(tmp_path / "fivl", shard_size=8), engine=engine)
    assert result.tally.kept == 70
    assert rows(tmp_path / "fivl") == scene_run
