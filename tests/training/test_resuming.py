"""Resuming: what a command line says, and what has changed since the checkpoint."""

import copy

import pytest
import transformers
from training_steps import checkpointing

from fivl_hf import FiVLTrainer
from fivl_hf.training.resuming import changes_since, resumed_folder, write_settings


def test_true_is_the_last_checkpoint_and_not_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [resumed_folder(value, None) for value in (None, False, "false", "False")] == [None, False, False, False]
    (tmp_path / "out" / "checkpoint-2").mkdir(parents=True)
    assert [resumed_folder(value, str(tmp_path / "out")) for value in (True, "true", "True")] == [True, True, True]
    assert resumed_folder("out/checkpoint-2", "elsewhere") == "out/checkpoint-2"
    with pytest.raises(FileNotFoundError, match="elsewhere holds no checkpoint; leave it out to start"):
        resumed_folder("true", "elsewhere")
    with pytest.raises(
        FileNotFoundError, match="there is no folder 'out/checkpoint-9'.*say true for the last one in out"
    ):
        resumed_folder("out/checkpoint-9", "out")


def test_other_settings_and_other_data_are_told(model, processor, dataset, config, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(transformers.utils.logging.get_logger("fivl_hf.training.trainer"), "propagate", True)

    def run(steps, resume=None, data=dataset, **options):
        args = config(**checkpointing(tmp_path / "run", steps), **options)
        trainer = FiVLTrainer(copy.deepcopy(model), args, train_dataset=data, processing_class=processor)
        trainer.train(resume_from_checkpoint=resume)

    run(2)
    run(4, "true")
    assert "other settings" not in caplog.text
    run(6, True, vision_loss_weight=0.5, data=dataset.select(range(20)))
    assert "checkpoint-4 with other settings: vision_loss_weight: 0.1, now 0.5; train_dataset:" in caplog.text


def test_settings_are_compared_as_they_come_back_from_a_file(tmp_path):
    assert changes_since(tmp_path, {"a": 1}) == []
    write_settings(tmp_path, {"a": (1, 2), "b": None})
    assert changes_since(tmp_path, {"a": [1, 2], "b": None}) == []
    assert changes_since(tmp_path, {"a": [1], "c": 3}) == ["a: [1, 2], now [1]", "c: None, now 3"]
