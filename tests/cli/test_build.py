from builder_sources import pope

from fivl_hf.cli.main import main


def test_command_tells_how_many_questions_have_evidence(tmp_path, capsys):
    pope(tmp_path)
    (tmp_path / "coco_pope_popular.json").unlink()
    command = ["build", "fivl_pope", "--data-dir", str(tmp_path), "--workers", "1"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "  adversarial: 6 rows, 3 with evidence\n  random: 6 rows, 3 with evidence\n" in told
    assert main([*command, "--output", str(tmp_path / "b"), "--min-score", "0.5"]) == 1
    assert "was not detected and has no scores" in capsys.readouterr().err
