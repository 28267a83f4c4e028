import json

import pytest
import yaml
from transformers import AutoModelForImageTextToText

from fivl_hf.cli.main import main


def test_train_takes_trl_flags(demo, scenes_folder, tmp_path):
    options = (
        f"--model_name_or_path {demo / 'models' / 'baseline'} --dataset_name {scenes_folder} "
        f"--output_dir {tmp_path / 'trained'} --vision_loss_weight 0.2 --max_steps 2 "
        "--per_device_train_batch_size 4 --bf16 false --use_cpu --report_to none --logging_steps 1 "
        "--eval_strategy steps --eval_steps 1"
    )
    arguments = ["train", *options.split()]
    assert main(arguments) == 0
    AutoModelForImageTextToText.from_pretrained(tmp_path / "trained")
    state = json.loads((tmp_path / "trained" / "checkpoint-2" / "trainer_state.json").read_text())
    assert any("eval_vision_token_accuracy" in entry for entry in state["log_history"])


def train_file(path, demo, scenes_folder, output, **more):
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


def test_train_takes_a_mixture_of_datasets(demo, scenes_folder, tmp_path, capsys):
    parts = [
        {"path": str(scenes_folder), "split": "train", "fraction": 0.5},
        {"path": str(scenes_folder), "split": "test", "fraction": 0.5},
    ]
    arguments = train_file(
        tmp_path / "a.yaml",
        demo,
        scenes_folder,
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
        main([*arguments, "--dataset_name", str(scenes_folder)])
    assert "not both" in capsys.readouterr().err


def test_train_is_launched_by_accelerate(demo, scenes_folder, tmp_path, capfd):
    """In a process of its own, as the configuration says; its failure is this command's."""
    (tmp_path / "accelerate.yaml").write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\nuse_cpu: true\n"
    )
    launcher = {"accelerate_config": str(tmp_path / "accelerate.yaml"), "dataset_name": str(scenes_folder)}
    arguments = train_file(tmp_path / "a.yaml", demo, scenes_folder, tmp_path / "out", **launcher)
    assert main([*arguments, "--num_processes", "1"]) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert main([*arguments, "--num_processes", "1", "--model_name_or_path", "/no/model"]) == 1
    error = capfd.readouterr().err
    assert "fivl: there is no model folder '/no/model'" in error
    assert "fivl: the training failed; its messages are above" in error


def test_train_knows_its_flags(demo, scenes_folder, tmp_path, capsys):
    arguments = train_file(tmp_path / "a.yaml", demo, scenes_folder, tmp_path / "out", dataset_name=str(scenes_folder))
    with pytest.raises(SystemExit):
        main([*arguments, "--vision_loss_wieght", "0.2"])
    assert "unrecognized arguments: --vision_loss_wieght" in capsys.readouterr().err
    assert main([*arguments, "--accelerate_config", "nowhere"]) == 1
    assert "nowhere is neither a file nor a valid config" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_train_names_what_is_missing(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--dataset_name", "rows"])
    assert "--model_name_or_path is needed" in capsys.readouterr().err
