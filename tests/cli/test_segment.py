import json

from fivl_hf.cli.main import main


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
    assert main([*command, "--grounder", "scenes", "--baseline", str(models / "fivl")]) == 1
    assert "of another run" in capsys.readouterr().err
    assert main([*command, "--restart"]) == 1
    assert "detector 'IDEA-Research/grounding-dino-tiny' is not on this machine" in capsys.readouterr().err
