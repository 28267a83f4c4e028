"""The command line as a user meets it: the demo in small, training with TRL's flags, and what goes wrong."""

import json
import re

import pytest
import yaml
from datasets import load_dataset
from transformers import AutoModelForImageTextToText

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.cli.main import main
from fivl_hf.demo.run import run_demo
from fivl_hf.files.locks import locked
from fivl_hf.storage import write_dataset


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_dataset(folder, {"train": scene_rows("train", 12), "test": scene_rows("test", 6)}, title="S", description="S")
    return folder


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


def test_report_is_self_contained(demo):
    page = (demo / "report.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert page.count("data:image/png") > 20
    assert 'name="viewport"' in page


def test_demo_again_reuses_what_is_finished(demo, small_settings, capsys):
    marks = {path: path.stat().st_mtime_ns for path in demo.rglob("demo_stage.json")}
    assert len(marks) == 5
    run_demo(demo, small_settings)
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("demo_stage.json")} == marks
    assert capsys.readouterr().out.count("reused") == 3


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


def test_train_takes_trl_flags(demo, scenes, tmp_path):
    options = (
        f"--model_name_or_path {demo / 'models' / 'baseline'} --dataset_name {scenes} "
        f"--output_dir {tmp_path / 'trained'} --vision_loss_weight 0.2 --max_steps 2 "
        "--per_device_train_batch_size 4 --bf16 false --use_cpu --report_to none --logging_steps 1 "
        "--eval_strategy steps --eval_steps 1"
    )
    arguments = ["train", *options.split()]
    assert main(arguments) == 0
    AutoModelForImageTextToText.from_pretrained(tmp_path / "trained")
    state = json.loads((tmp_path / "trained" / "checkpoint-2" / "trainer_state.json").read_text())
    assert any("eval_vision_token_accuracy" in entry for entry in state["log_history"])


def train_file(path, demo, scenes, output, **more):
    config = {
        "model_name_or_path": str(demo / "models" / "baseline"),
        "output_dir": str(output),
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        **more,
    }
    path.write_text(yaml.safe_dump(config))
    return ["train", "--config", str(path)]


def test_train_takes_a_mixture_of_datasets(demo, scenes, tmp_path, capsys):
    parts = [
        {"path": str(scenes), "split": "train", "fraction": 0.5},
        {"path": str(scenes), "split": "test", "fraction": 0.5},
    ]
    arguments = train_file(
        tmp_path / "a.yaml",
        demo,
        scenes,
        tmp_path / "out",
        datasets=parts,
        test_split_size=0.25,
        eval_strategy="steps",
        eval_steps=1,
    )
    assert main([*arguments, "--vision_loss_weight", "0.2"]) == 0
    state = json.loads((tmp_path / "out" / "checkpoint-1" / "trainer_state.json").read_text())
    assert any("eval_vision_loss" in entry for entry in state["log_history"])
    with pytest.raises(SystemExit):
        main([*arguments, "--dataset_name", str(scenes)])
    assert "not both" in capsys.readouterr().err


def test_train_is_launched_by_accelerate(demo, scenes, tmp_path, capfd):
    """In a process of its own, as the configuration says; its failure is this command's."""
    (tmp_path / "accelerate.yaml").write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\nuse_cpu: true\n"
    )
    launcher = {"accelerate_config": str(tmp_path / "accelerate.yaml"), "dataset_name": str(scenes)}
    arguments = train_file(tmp_path / "a.yaml", demo, scenes, tmp_path / "out", **launcher)
    assert main([*arguments, "--num_processes", "1"]) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert main([*arguments, "--num_processes", "1", "--model_name_or_path", "/no/model"]) == 1
    error = capfd.readouterr().err
    assert "fivl: there is no model folder '/no/model'" in error
    assert "fivl: the training failed; its messages are above" in error


def test_train_knows_its_flags(demo, scenes, tmp_path, capsys):
    arguments = train_file(tmp_path / "a.yaml", demo, scenes, tmp_path / "out", dataset_name=str(scenes))
    with pytest.raises(SystemExit):
        main([*arguments, "--vision_loss_wieght", "0.2"])
    assert "unrecognized arguments: --vision_loss_wieght" in capsys.readouterr().err
    assert main([*arguments, "--accelerate_config", "nowhere"]) == 1
    assert "nowhere is neither a file nor a valid config" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


WRONG = [
    (
        ["evaluate", "--model", "MODEL", "--dataset", "/no/such/set", "--output", "OUT"],
        "no dataset folder '/no/such/set'",
    ),
    (
        ["evaluate", "--model", "/no/such/model", "--dataset", "DATA", "--output", "OUT"],
        "no model folder '/no/such/model'",
    ),
    (["explain", "--model", "MODEL", "--dataset", "DATA", "--output", "OUT", "--head", "9,9"], "counted from 0"),
    (["evaluate", "--model", "MODEL", "--dataset", "DATA", "--split", "dev", "--output", "OUT"], "dev"),
    (["evaluate", "--model", "MODEL", "--dataset", "MODEL", "--output", "OUT"], ""),
    (["evaluate", "--model", "MODEL", "--dataset", "nope/nada", "--output", "OUT"], "nope/nada"),
    (["evaluate", "--model", "foo/bar", "--dataset", "DATA", "--output", "OUT"], "foo/bar"),
    (["evaluate", "--model", "MODEL", "--dataset", "DATA", "--output", "OUT", "--device", "xyz"], "device 'xyz'"),
    (["evaluate", "--model", "MODEL", "--dataset", "DATA", "--output", "OUT", "--dtype", "float99"], "'float99'"),
    (["demo", "--output", "DATA"], "not a demo's folder"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_mistakes_are_one_clear_message(demo, scenes, tmp_path, capsys, arguments, message):
    places = {"MODEL": str(demo / "models" / "fivl"), "DATA": str(scenes), "OUT": str(tmp_path / "out")}
    assert main([places.get(argument, argument) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert any(line.startswith("fivl: ") and message in line for line in error.splitlines())
    assert "Traceback" not in error


LONG = {
    "demo": ["--steps", "3"],
    "evaluate": ["--model", "MODEL", "--dataset", "DATA"],
    "explain": ["--model", "MODEL", "--dataset", "DATA"],
    "judge": ["--dataset", "DATA", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"],
    "train": ["--model_name_or_path", "MODEL", "--dataset_name", "DATA", "--bf16", "false", "--use_cpu"],
}


@pytest.mark.parametrize("command", LONG)
def test_a_second_process_in_one_folder_is_told_at_once_who_is_there(command, demo, scenes, tmp_path, capsys):
    places = {"MODEL": str(demo / "models" / "fivl"), "DATA": str(scenes)}
    output = "--output_dir" if command == "train" else "--output"
    out = tmp_path / "out"
    out.mkdir()
    (out / ".fivl-demo").touch()
    with locked(out):
        before = sorted(out.rglob("*"))
        arguments = [places.get(each, each) for each in LONG[command]]
        assert main([command, *arguments, output, str(out)]) == 1
        assert sorted(out.rglob("*")) == before
    error = capsys.readouterr().err
    assert re.search(rf"fivl: {out} is in use by `.*` \(process \d+ on .*, since ", error)


@pytest.mark.parametrize("command", ["demo", "evaluate", "explain", "train"])
def test_help_explains(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    shown = capsys.readouterr().out
    assert "--output" in shown
    assert len(shown) > 400


def test_train_names_what_is_missing(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--dataset_name", "rows"])
    assert "--model_name_or_path is needed" in capsys.readouterr().err


def test_demo_leaves_other_folders_alone(tmp_path, small_settings):
    (tmp_path / "fivl").mkdir()
    (tmp_path / "fivl" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a demo's folder"):
        run_demo(tmp_path, small_settings)
    assert (tmp_path / "fivl" / "mine.txt").exists()


def test_wrong_numbers_are_refused_by_the_parser(capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--steps", "0"])
    assert "at least 1" in capsys.readouterr().err
