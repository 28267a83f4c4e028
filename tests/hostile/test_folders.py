"""Folders: other people's files, volumes, links, damaged state, and outputs that cannot be written."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from scripted_server import Answer

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.cli.main import main
from fivl_hf.explain.runner import write_explanation
from fivl_hf.explain.scores import ScoreFile
from fivl_hf.files.locks import locked
from fivl_hf.files.managed_folders import work_folder
from fivl_hf.files.results import result_folder
from fivl_hf.hub.push import dataset_upload, model_upload
from fivl_hf.storage import load_rows, write_dataset

OFFLINE = ["--input", "scenes", "--grounder", "scenes", "--limit", "12", "--shard-size", "4", "--extractor", "offline"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of ``fivl augment`` with its work folder; its rows."""
    output = tmp_path_factory.mktemp("made") / "fivl"
    assert main(["augment", *OFFLINE, "--output", str(output)]) == 0
    return output


@pytest.fixture
def output(made, tmp_path):
    """A copy of that run, of which some file is now to be damaged."""
    shutil.copytree(made, tmp_path / "fivl")
    shutil.copytree(work_folder(made), work_folder(tmp_path / "fivl"))
    return tmp_path / "fivl"


def empty(path):
    path.write_bytes(b"")


DEEP = "[" * 100_000
DAMAGE = {
    "empty": empty,
    "missing": Path.unlink,
    "cut off": lambda path: path.write_text('{"number": '),
    "nested deep": lambda path: path.write_text(DEEP),
    "of other types": lambda path: path.write_text(
        path.read_text(errors="replace").replace('"read": 4', '"read": "x"')
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_shards_are_made_again(output, made, damage):
    for name in ("000000.report", "000001.rows"):
        damage(work_folder(output) / "shards" / name)
    assert main(["augment", *OFFLINE, "--output", str(output)]) == 0
    assert load_rows(output, "train").to_list() == load_rows(made, "train").to_list()


@pytest.mark.parametrize("text", ["", DEEP, "[1]"])
def test_damaged_settings_are_named_with_the_cure(output, capsys, text):
    (work_folder(output) / "settings").write_text(text)
    assert main(["augment", *OFFLINE, "--output", str(output)]) == 1
    error = capsys.readouterr().err
    assert "settings is damaged" in error
    assert "use --restart to begin again" in error
    assert main(["augment", *OFFLINE, "--output", str(output), "--restart"]) == 0


@pytest.mark.parametrize("damage", ["the header", "the pages"])
def test_a_damaged_answer_cache_is_named_with_the_cure(tmp_path, capsys, serve, damage):
    server = serve(lambda *_: Answer('{"expressions": []}'))
    command = ["augment", *OFFLINE[:-1], "openai", "--model", "m", "--base-url", server.url]
    command += ["--output", str(tmp_path / "fivl")]
    main(command)
    cache = work_folder(tmp_path / "fivl") / "answers.sqlite"
    with sqlite3.connect(cache) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(cache.read_bytes())
    data[0 if damage == "the header" else 4096 :] = b"\x5a" * (100 if damage == "the header" else len(data) - 4096)
    cache.write_bytes(data)
    for leftover in cache.parent.glob("answers.sqlite-*"):
        leftover.unlink()
    capsys.readouterr()
    assert main([*command, "--restart"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "answers.sqlite cannot be used as an answer cache" in error
    assert "Move it away to start with an empty one." in error


@pytest.mark.parametrize("text", ["", DEEP, "[1]"])
def test_damaged_notes_of_results_are_named_with_the_cure(tmp_path, text):
    (tmp_path / "evaluation.run.json").write_text(text)
    with (
        pytest.raises(ValueError, match=r"evaluation\.run\.json is damaged .*use --restart"),
        result_folder(tmp_path, {}, kind="evaluation", files=("reliance.json",)),
    ):
        pass


@pytest.mark.parametrize("line", [DEEP, '{"id": "a"}', "[]", '{"id": 1, "expressions": 2, "problem": 3}'])
def test_damaged_scores_are_named_with_their_line(tmp_path, line):
    (tmp_path / "scores.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"scores\.jsonl, line 1, is not a row's scores"):
        ScoreFile(tmp_path / "scores.jsonl")


def test_images_of_the_user_are_not_overwritten_by_drawings(tmp_path, made, model, processor):
    rows = load_rows(made, "train").select(range(2))
    (tmp_path / "out" / "pictures").mkdir(parents=True)
    (tmp_path / "out" / "pictures" / "000.png").write_text("mine")
    with pytest.raises(FileExistsError, match="pictures exists and is not a pictures of fivl-hf"):
        write_explanation(model, processor, rows, tmp_path / "out", pictures=1)
    assert (tmp_path / "out" / "pictures" / "000.png").read_text() == "mine"


def test_a_trained_model_is_not_taken_for_a_dataset(tmp_path, capsys):
    """Its card has the tag by which our datasets are found."""
    model = tmp_path / "model"
    model.mkdir()
    files = {"README.md": "---\ntags:\n- fivl\n---\n", "model.safetensors": "weights"}
    for name, text in files.items():
        (model / name).write_text(text)
    assert main(["augment", *OFFLINE, "--output", str(model)]) == 1
    assert "exists and is not a dataset of fivl-hf" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in model.iterdir()} == files


def test_everything_of_a_run_stays_on_its_volume(tmp_path, monkeypatch):
    """A mount point cannot be renamed, and what is beside it is on another disk."""
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == volume)
    inode = volume.stat().st_ino
    for _ in range(2):
        assert main(["augment", *OFFLINE, "--output", str(volume)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["volume"]
    assert (work_folder(volume) / "shards").is_dir()
    assert volume.stat().st_ino == inode
    assert len(load_rows(volume, "train")) == 12


def test_an_output_that_cannot_be_written_is_said_before_the_work(tmp_path, made, capsys, monkeypatch):
    def computing(*_, **__):
        raise AssertionError("it began to compute")

    monkeypatch.setattr("fivl_hf.models.load_model", computing)
    monkeypatch.setattr("fivl_hf.augment.pipeline.run_jobs", computing)
    (tmp_path / "file").write_text("mine")
    output = tmp_path / "file" / "out"
    rows = ["--model", str(tmp_path), "--dataset", str(made), "--split", "train", "--output", str(output)]
    for command in (["evaluate", *rows], ["explain", *rows], ["augment", *OFFLINE, "--output", str(output)]):
        assert main(command) == 1
        assert str(tmp_path / "file") in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_use_is_said_before_a_model_is_loaded(tmp_path, made, capsys, monkeypatch):
    monkeypatch.setattr("fivl_hf.models.load_model", lambda *_, **__: 1 / 0)
    rows = ["--model", str(tmp_path), "--dataset", str(made), "--split", "train", "--output", str(tmp_path / "out")]
    with locked(tmp_path / "out"):
        for command in ("evaluate", "explain"):
            assert main([command, *rows]) == 1
            assert "is in use by" in capsys.readouterr().err


@pytest.fixture
def pushed(tmp_path):
    """A dataset folder beside a secret."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "id_rsa").write_text("key")
    shutil.copytree(_written(tmp_path / "whole"), tmp_path / "set")
    return tmp_path / "set"


def _written(folder):
    write_dataset(folder, {"test": scene_rows("test", 3)}, title="S", description="D")
    return folder


def test_links_out_of_a_dataset_are_not_pushed(pushed, tmp_path):
    (pushed / "pictures").mkdir(exist_ok=True)
    (pushed / "pictures" / "0.png").symlink_to(tmp_path / "secret" / "id_rsa")
    with pytest.raises(ValueError, match=r"0\.png is a link to .*id_rsa, outside the folder"):
        dataset_upload(pushed, "me/x")
    (pushed / "pictures" / "0.png").unlink()
    (pushed / "pictures").rmdir()
    (pushed / "pictures").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="outside the folder"):
        dataset_upload(pushed, "me/x")
    (pushed / "pictures").unlink()
    (pushed / "data").rename(tmp_path / "data")
    (pushed / "data").symlink_to(tmp_path / "data")
    with pytest.raises(ValueError, match="outside the folder"):
        dataset_upload(pushed, "me/x")


@pytest.mark.parametrize("pattern", ["../whole/data/*", "/etc/*", "data/../../whole/data/*"])
def test_patterns_out_of_a_dataset_are_refused(pushed, pattern):
    card = pushed / "README.md"
    named = next(line for line in card.read_text().splitlines() if "path: data/" in line)
    card.write_text(card.read_text().replace(named, named.split("path:")[0] + f"path: {pattern}"))
    with pytest.raises(ValueError, match="outside the dataset's folder"):
        dataset_upload(pushed, "me/x")


def test_links_out_of_a_model_are_not_pushed(tmp_path, model):
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "secret.json").write_text(json.dumps({"token": "hf_x"}))
    (tmp_path / "model" / "generation_config.json").unlink(missing_ok=True)
    (tmp_path / "model" / "generation_config.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ValueError, match=r"generation_config\.json is a link to .*secret\.json, outside the folder"):
        model_upload(tmp_path / "model", "me/x")
    (tmp_path / "model" / "generation_config.json").unlink()
    (tmp_path / "model" / "README.md").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ValueError, match=r"README\.md is a link to .*secret\.json, outside the folder"):
        model_upload(tmp_path / "model", "me/x")
