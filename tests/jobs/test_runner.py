import json
import resource
import subprocess
import sys
from functools import partial

import pytest
from scene_runs import SCENES, names_the_first_noun, rows, scenes, whole_image

from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.pipeline import ExtractionSettings, RunSettings, run_augmentation
from fivl_hf.files.locks import FolderInUseError
from fivl_hf.files.managed_folders import work_folder


def test_a_finished_run_is_taken_as_it_is_and_a_longer_one_goes_on(scene_run, tmp_path):
    output = tmp_path / "fivl"
    made = []

    def counting(worker):
        made.append(worker)
        return SCENES(worker)

    run = partial(run_augmentation, factory=counting, settings=RunSettings(output, shard_size=8))
    run(scenes(20))
    shards = work_folder(output) / "shards"
    marks = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    run(scenes(20))
    assert {path.name: path.stat().st_mtime_ns for path in shards.iterdir()} == marks
    run(scenes(70))
    assert rows(output) == scene_run
    kept = {path.name for path in shards.iterdir() if marks.get(path.name) == path.stat().st_mtime_ns}
    assert kept == {f"{i:06d}.{kind}" for i in (0, 1) for kind in ("report", "rows")}


def test_other_settings_are_not_mixed_in(tmp_path):
    run = partial(run_augmentation, scenes(4), SCENES)
    run(RunSettings(tmp_path / "fivl", identity={"model": "a"}))
    with pytest.raises(ValueError, match="model: 'a', now 'b'.*--restart"):
        run(RunSettings(tmp_path / "fivl", identity={"model": "b"}))
    run(RunSettings(tmp_path / "fivl", identity={"model": "b"}, restart=True))


def test_settings_of_a_run_that_came_to_nothing_do_not_bind(tmp_path):
    def broken(worker):
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        run_augmentation(scenes(4), broken, RunSettings(tmp_path / "fivl", identity={"detector": "typo"}))
    run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl", identity={"detector": "right"}))


def test_two_runs_at_a_time_do_not_undo_each_other(tmp_path):
    def second():
        yield from scenes(4)()
        with pytest.raises(FolderInUseError, match="in use by"):
            run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl"))

    run_augmentation(second, SCENES, RunSettings(tmp_path / "fivl"))


def test_shards_of_an_earlier_input_are_not_mixed_in(photos, serve, settings):
    folder, read = photos

    def run(thing, **budget):
        extraction = ExtractionSettings(
            settings(serve(names_the_first_noun), concurrency=1, **budget), folder / "a.sqlite"
        )
        return run_augmentation(
            read(thing, 40), whole_image, RunSettings(folder / "fivl", shard_size=4), extraction=extraction
        )

    assert run("car").tally.kept == 30
    stopped = run("dog", max_requests=8)
    assert stopped.stopped
    texts = [row["key_expressions"][0]["text"] for row in rows(folder / "fivl")]
    assert set(texts) == {"dog"}
    assert stopped.tally.kept == len(texts)


def test_a_later_stop_does_not_lose_what_was_finished(photos, serve, settings):
    folder, read = photos

    def run(**budget):
        extraction = ExtractionSettings(
            settings(serve(names_the_first_noun), concurrency=1, **budget), folder / "a.sqlite"
        )
        settings_ = RunSettings(folder / "fivl", shard_size=4)
        return run_augmentation(read("car", 40), whole_image, settings_, extraction=extraction).tally.kept

    assert run() == 30
    shards = work_folder(folder / "fivl") / "shards"
    (shards / "000002.report").unlink()
    (folder / "a.sqlite").unlink()
    assert run(max_requests=1) == 27


def test_nothing_but_failures_stops_early(tmp_path):
    entries = [{"id": i, "image": "a.jpg", "conversations": [{"from": "human", "value": "What?"},
               {"from": "gpt", "value": "A car."}]} for i in range(500)]  # fmt: skip
    (tmp_path / "mix.json").write_text(json.dumps(entries))
    source = InputSettings(str(tmp_path / "mix.json"), images=(tmp_path,))
    with pytest.raises(ValueError, match=r"all of the first 128 samples failed.*the image is missing.*a\.jpg"):
        run_augmentation(partial(read_conversations, source), SCENES, RunSettings(tmp_path / "fivl"))


def test_a_full_disk_is_a_clear_error_and_finished_shards_stay(tmp_path, scene_run):
    """A limit on the size of files stands in for the full disk: the second shard is larger than it."""
    command = [*_command(tmp_path), "--limit", "70", "--shard-size", "8", "--extractor", "offline", "--workers", "1"]
    small = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (16_000, 16_000))
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=small)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "fivl").exists()
    assert not list(work_folder(tmp_path / "fivl").glob("shards/.*"))
    subprocess.run(command, capture_output=True, check=True)
    assert rows(tmp_path / "fivl") == scene_run


def _command(folder):
    output = str(folder / "fivl")
    return [sys.executable, "-m", "fivl_hf", "augment", "--input", "scenes", "--grounder", "scenes", "--output", output]
