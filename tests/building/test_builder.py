import pytest
from builder_sources import pope

from fivl_hf.building.run import builder_class
from fivl_hf.cli.main import main
from fivl_hf.storage import load_rows


def test_options_without_effect_are_refused(build, tmp_path):
    options = pope(tmp_path)
    for name, given in (
        ("fivl_pope", {**options, "evidence": ("x",), "annotations": (str(tmp_path / "instances_val2014.json"),)}),
        ("fivl_scenes", {"images": (str(tmp_path),)}),
    ):
        with pytest.raises(ValueError, match="would change nothing here"):
            build(name, tmp_path / "out", **given)


def test_scenes_obey_limits_splits_and_seed(tmp_path, capsys):
    command = ["build", "fivl_scenes", "--workers", "1", "--limit", "5", "--seed", "3"]
    assert main([*command, "--output", str(tmp_path / "a"), "--split", "test"]) == 0
    rows = load_rows(tmp_path / "a", "test")
    assert rows["id"] == [f"scene-3-test-{number}" for number in range(5)]
    assert main([*command, "--output", str(tmp_path / "b"), "--max-coverage", "0.0001"]) == 1
    assert "within the limits" in capsys.readouterr().err
    assert main([*command, "--output", str(tmp_path / "c"), "--split", "tset"]) == 1
    assert "no split 'tset' to build; there are train" in capsys.readouterr().err


def test_names_with_marks_of_addresses(build, tmp_path):
    build("fivl_pope", tmp_path / "a#b?c%20", **pope(tmp_path))
    assert len(load_rows(tmp_path / "a#b?c%20", "random")) == 6


def test_builders_without_a_row_and_seeds_without_effect_say_so(tmp_path, capsys):
    made = builder_class("fivl_scenes")(cache_dir=str(tmp_path / "cache"), train_rows=4, max_coverage=0.0)
    with pytest.raises(ValueError, match="none of the samples became a row"):
        made.download_and_prepare()
    pope(tmp_path)
    assert (
        main(["build", "fivl_pope", "--data-dir", str(tmp_path), "--output", str(tmp_path / "o"), "--seed", "1"]) == 1
    )
    assert "--seed draws samples for --limit" in capsys.readouterr().err
