import json
import shutil

import pytest
from datasets import Dataset

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
    # One of the eight asks for something absent.
    assert "7 questions with evidence about 7 images, answered by all, scored by exact" in printed
    assert "baseline − fivl" in printed
    assert set(json.loads((output / "comparison.json").read_text())["means"]) == {"baseline", "fivl"}


def test_the_numbers_of_a_file_by_another_fill_and_over_all_questions(demo, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "e"
    command = ["evaluate", "--model", str(demo / "models" / "fivl"), "--dataset", str(demo / "fivl")]
    command += ["--split", "test[:6]", "--output", str(folder), "--seed", "5", "--resamples", "300"]
    assert main([*command, "--conditions", "original,removed,random,other,removed-mean,random-mean"]) == 0
    whole = (folder / "reliance.json").read_bytes()
    # What it was measured with is kept, and so is everything else.
    assert main(["score", str(folder)]) == 0
    assert (folder / "reliance.json").read_bytes() == whole
    assert main(["score", str(folder / "answers.jsonl")]) == 0
    assert (folder / "reliance.json").read_bytes() == whole
    capsys.readouterr()
    assert main(["score", str(folder), "--resamples", "20", "--seed", "9", "--fill", "mean", "--scope", "all"]) == 0
    printed = capsys.readouterr().out
    for shown in ("accuracy on all questions ", "accuracy, evidence removed (mean)", "accuracy, removed "):
        assert shown in printed
    assert "accuracy, removed-mean" not in printed
    assert f"written to {folder / 'reliance.json'}" in printed
    mean = tmp_path / "mean"
    shutil.copytree(folder, mean)
    changed = json.loads((folder / "reliance.json").read_text())
    assert (changed["bootstrap"], changed["seed"]) == ({"seed": 9, "resamples": 20}, 5)
    assert (changed["fill"], changed["scope"], changed["with_evidence"]["n"]) == ("mean", "all", 5)
    assert "all_questions" not in changed
    back = ["--resamples", "300", "--seed", "5", "--fill", "black", "--scope", "evidence"]
    assert main(["score", str(folder), *back]) == 0
    assert json.loads((folder / "reliance.json").read_bytes()) == json.loads(whole)

    # Answers alone, in another place, as JSON Lines without a last line break and as Parquet.
    text = (folder / "answers.jsonl").read_text().rstrip("\n")
    (tmp_path / "alone.jsonl").write_text(text)
    Dataset.from_list([json.loads(line) for line in text.splitlines()]).to_parquet(tmp_path / "table.parquet")
    for file in ("alone.jsonl", "table.parquet"):
        assert main(["score", str(tmp_path / file), *back[:4]]) == 0
        alone = json.loads((tmp_path / file).with_suffix(".reliance.json").read_text())
        # Which conditions were asked is not known where there are no answers.
        alone["conditions"]["other"] = json.loads(whole)["conditions"]["other"]
        assert alone == {name: json.loads(whole)[name] for name in alone}
    (tmp_path / "alone.jsonl").write_text(text[:-5])
    capsys.readouterr()
    assert main(["score", str(tmp_path / "alone.jsonl")]) == 1
    assert "alone.jsonl, line 26, is not an answer of fivl evaluate" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "nowhere")]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(folder), str(folder)]) == 1  # one model twice
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    assert main(["compare", str(folder), str(again)]) == 0
    capsys.readouterr()
    assert main(["compare", str(folder), str(mean)]) == 1
    message = "scored by different fills (e by removed, mean by removed-mean): name one with --fill"
    assert message in capsys.readouterr().err
    assert main(["compare", str(folder), str(mean), "--fill", "mean"]) == 0
    assert "scored by exact, the evidence removed-mean" in capsys.readouterr().out
    assert json.loads((tmp_path / "comparison.json").read_text())["means"]


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
