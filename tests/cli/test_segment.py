import json

import numpy as np
from random_models import save_grounding_dino, save_sam

from fivl_hf.cli.main import main
from fivl_hf.explain import prompted


def test_the_command_prints_the_papers_table(demo, tmp_path, capsys):
    models = demo / "models"
    command = ["segment", "--model", str(models / "fivl"), "--baseline", str(models / "baseline")]
    command += [
        "--dataset",
        str(demo / "fivl"),
        "--split",
        "test[:6]",
        "--output",
        str(tmp_path / "s"),
        "--pictures",
        "2",
    ]
    assert main([*command, "--grounder", "scenes"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in told[1:3]] == [["exact", "baseline"], ["exact", "fivl"]]
    assert any(line.startswith("fivl: 6 rows; left out of the words:") for line in told)
    assert len(list((tmp_path / "s" / "pictures").glob("*.png"))) == 2
    assert set(json.loads((tmp_path / "s" / "segmentation.json").read_text())["models"]) == {"baseline", "fivl"}
    assert main([*command, "--grounder", "scenes", "--split", "test[:2]"]) == 1
    assert "of another run" in capsys.readouterr().err
    assert main([*command, "--grounder", "scenes", "--baseline", str(models / "fivl")]) == 1
    assert "--baseline is the same model" in capsys.readouterr().err
    assert main([*command, "--restart"]) == 1
    assert "detector 'IDEA-Research/grounding-dino-tiny' is not on this machine" in capsys.readouterr().err


def test_a_detector_and_a_segmenter_are_prompted_at_three_thresholds(demo, processor, tmp_path, capsys, monkeypatch):
    """Real classes with random weights: what they find for the word that every patch predicts means nothing."""
    ring = processor.tokenizer.convert_tokens_to_ids("ring")
    monkeypatch.setattr(prompted, "vision_predictions", lambda _, sample: np.full(len(sample.image_positions), ring))
    detector, segmenter = save_grounding_dino(tmp_path / "dino", size=128), save_sam(tmp_path / "sam")
    command = ["segment", "--model", str(demo / "models" / "fivl"), "--dataset", str(demo / "fivl")]
    command += ["--split", "test[:1]", "--output", str(tmp_path / "s"), "--pictures", "1"]
    command += ["--detector", str(detector), "--segmenter", str(segmenter), "--device", "cpu"]
    for protocol in ("default", "paper"):
        assert main([*command, "--protocol", protocol, "--restart"]) == 0
        table = capsys.readouterr().out.splitlines()
        assert [line.split()[:2] for line in table[1:4]] == [["0.2", "fivl"], ["0.4", "fivl"], ["0.6", "fivl"]]
        figures = json.loads((tmp_path / "s" / "segmentation.json").read_text())["models"]["fivl"]["by_threshold"]
        shares = [figures[threshold]["share_found"] for threshold in ("0.2", "0.4", "0.6")]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] > 0
    assert main([*command, "--grounder", "scenes", "--protocol", "paper", "--restart"]) == 1
    assert "--protocol paper would change nothing here" in capsys.readouterr().err
