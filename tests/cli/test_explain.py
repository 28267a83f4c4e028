import json

from fivl_hf.cli.main import main
from fivl_hf.scenes.model import scene_model, scene_processor
from fivl_hf.storage import write_dataset


def test_the_command_names_model_and_dataset_and_refuses_another_run(rows, tmp_path, capsys):
    processor = scene_processor()
    write_dataset(tmp_path / "rows", {"test": rows[:6]}, title="S", description="D")
    scene_model(processor, seed=0, hidden_size=32, text_layers=2, vision_layers=1).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    run = ["explain", "--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "rows"), "--output"]
    assert main([*run, str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "control: other images' masks" in printed
    found = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert found["model"] == str(tmp_path / "model")
    assert len(found["weights_fingerprint"]) == len(found["rows_fingerprint"]) == 16
    assert found["chosen_on"] + found["measured_on"] == found["n"]
    assert main([*run, str(tmp_path / "out"), "--split", "test[:3]"]) == 1
    assert "explanation of another run (split: 'test', now 'test[:3]'" in capsys.readouterr().err
    assert main([*run, str(tmp_path / "out"), "--split", "test[:3]", "--restart"]) == 0
