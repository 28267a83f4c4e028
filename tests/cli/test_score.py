import json

import pytest

from fivl_hf.cli.main import main


@pytest.fixture
def evaluated(demo, tmp_path):
    """Folders of two models' evaluations under six conditions."""
    folders = {}
    for name in ("baseline", "fivl"):
        folders[name] = tmp_path / name
        command = ["evaluate", "--model", str(demo / "models" / name), "--dataset", str(demo / "fivl")]
        command += ["--split", "test[:8]", "--output", str(folders[name])]
        assert main([*command, "--conditions", "original,removed,random,kept,blank,text-only"]) == 0
    return folders


def test_answers_are_scored_and_compared_without_a_model(evaluated, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fivl_hf.models.load_model", None)
    before = (evaluated["fivl"] / "reliance.json").read_text()
    assert main(["score", str(evaluated["fivl"])]) == 0
    again = (evaluated["fivl"] / "reliance.json").read_text()
    assert json.loads(again) == json.loads(before)
    assert set(json.loads(again)["conditions"]) == {"original", "removed", "random", "kept", "blank", "text-only"}
    capsys.readouterr()
    assert main(["score", str(evaluated["fivl"]), "--scorer", "contains"]) == 0
    printed = capsys.readouterr().out
    assert "accuracy, text-only" in printed
    assert "scored by                         contains;" in printed
    result = json.loads((evaluated["fivl"] / "reliance.json").read_text())
    assert (result["scoring"], result["model"]) == ("contains", json.loads(before)["model"])

    output = tmp_path / "comparison"
    assert main(["compare", *map(str, evaluated.values()), "--scorer", "exact", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "8 questions with evidence about 8 images, answered by all, scored by exact" in printed
    assert "baseline − fivl" in printed
    assert set(json.loads((output / "comparison.json").read_text())["means"]) == {"baseline", "fivl"}


def test_more_conditions_and_another_scorer_ask_nothing_twice(demo, tmp_path, capsys):
    command = ["evaluate", "--model", str(demo / "models" / "fivl"), "--dataset", str(demo / "fivl")]
    command += ["--split", "test[:4]", "--output", str(tmp_path / "e")]
    assert main([*command, "--conditions", "original,removed"]) == 0
    first = (tmp_path / "e" / "answers.jsonl").read_text()
    assert main([*command, "--conditions", "original,removed,kept", "--scorer", "contains"]) == 0
    second = (tmp_path / "e" / "answers.jsonl").read_text()
    assert second.startswith(first)
    assert [json.loads(line)["condition"] for line in second[len(first) :].splitlines()] == ["kept"] * 4
    assert json.loads((tmp_path / "e" / "reliance.json").read_text())["scoring"] == "contains"


def test_mistakes_are_one_sentence(tmp_path, demo, capsys):
    (tmp_path / "empty").mkdir()
    for command, message in (
        (["score", str(tmp_path / "empty")], "holds no answers.jsonl: it is not the output of fivl evaluate"),
        (["compare", str(tmp_path / "empty"), str(tmp_path / "empty")], "holds no answers.jsonl"),
        (
            ["evaluate", "--model", str(demo / "models" / "fivl"), "--dataset", str(demo / "fivl"), "--split"]
            + ["test[:2]", "--output", str(tmp_path / "e"), "--conditions", "original,masked"],
            "there is no condition 'masked'",
        ),
        (
            ["evaluate", "--model", str(demo / "models" / "fivl"), "--dataset", str(demo / "fivl"), "--split"]
            + ["test[:2]", "--output", str(tmp_path / "f"), "--scorer", "fuzzy"],
            "there is no scorer 'fuzzy'",
        ),
    ):
        assert main(command) == 1
        assert message in capsys.readouterr().err
