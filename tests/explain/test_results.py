"""Explanations on disk: interrupted, continued, and rows that cannot be read."""

import json

import numpy as np
import pytest

from fivl_hf.cli.main import main
from fivl_hf.explain.runner import write_explanation
from fivl_hf.explain.scores import ExpressionScores, RowScores, ScoreFile
from fivl_hf.scenes.model import scene_model, scene_processor
from fivl_hf.storage import write_dataset

ABOUT = {"model": "m", "dataset": "d"}


class KilledError(BaseException):
    pass


def test_scores_come_back_as_they_went(tmp_path):
    file = ScoreFile(tmp_path / "scores.jsonl")
    heads = np.array([[0.25, np.nan], [-0.5, 0.125]])
    one = ExpressionScores(heads, None, {"whole": heads}, 0.5, True, 3, ("no keyword",))
    file.add(RowScores("1", "ab", (one, ExpressionScores())))
    file.add(RowScores("2", problem="broken"))
    again = ScoreFile(tmp_path / "scores.jsonl")
    assert again.known == {"1"}
    first, second = again
    np.testing.assert_array_equal(first.expressions[0].alignment, heads)
    np.testing.assert_array_equal(first.expressions[0].by_scale["whole"], heads)
    assert first.expressions[0].control is None
    assert first.expressions[0].iou == 0.5
    assert first.expressions[0].skipped == ("no keyword",)
    assert first.expressions[1] == ExpressionScores()
    assert (first.id, first.image, second.problem) == ("1", "ab", "broken")
    again.add(RowScores("2", "cd"))
    assert [row.problem for row in ScoreFile(tmp_path / "scores.jsonl")] == [None, None]


def test_an_interrupted_explanation_goes_on(model, processor, rows, tmp_path, monkeypatch):
    whole = write_explanation(model, processor, rows[:4], tmp_path / "whole", pictures=0, about=ABOUT)
    calls, limit, forward = 0, 0, model.base_model.forward

    def counted(*args, **options):
        nonlocal calls
        calls += 1
        if calls > limit:
            raise KilledError
        return forward(*args, **options)

    monkeypatch.setattr(model.base_model, "forward", counted)
    file = tmp_path / "out" / "scores.jsonl"
    for limit in (0, 2, 3):
        calls = 0
        file.unlink(missing_ok=True)
        with pytest.raises(KilledError):
            write_explanation(model, processor, rows[:4], tmp_path / "out", pictures=0, about=ABOUT)
        if limit:
            file.write_bytes(file.read_bytes()[:-20])  # the last row's line was cut off, too
        calls, done, limit = 0, max(limit - 1, 0), 100
        assert write_explanation(model, processor, rows[:4], tmp_path / "out", pictures=0, about=ABOUT) == whole
        assert calls == 4 - done


def test_one_broken_row_is_listed_and_loses_nothing(model, processor, rows, tmp_path):
    broken = {**rows[1], "images": [{"bytes": b"no image", "path": None}]}
    given = [rows[0], broken, *rows[2:5]]
    result = write_explanation(model, processor, given, tmp_path, pictures=1, about=ABOUT)
    assert list(result["problems"]) == [rows[1]["id"]]
    assert rows[1]["id"] in result["problems"][rows[1]["id"]]
    assert result["n"] == sum(len(row["key_expressions"]) for row in given if row is not broken)
    # Mended, the row is explained without the others being explained again.
    mended = write_explanation(model, processor, rows[:5], tmp_path, pictures=1, about=ABOUT)
    assert mended["problems"] == {}
    assert mended["n"] == result["n"] + len(rows[1]["key_expressions"])


def test_another_file_is_not_taken_for_scores(model, processor, rows, tmp_path):
    (tmp_path / "scores.jsonl").write_text("[1]\n")
    with pytest.raises(ValueError, match=r"holds scores.jsonl of an unknown run"):
        write_explanation(model, processor, rows[:2], tmp_path, about=ABOUT)
    with pytest.raises(ValueError, match=r"scores.jsonl, line 1, is not a row's scores"):
        ScoreFile(tmp_path / "scores.jsonl")


def test_the_command_names_model_and_dataset_and_refuses_another_run(rows, tmp_path, capsys):
    processor = scene_processor()
    write_dataset(tmp_path / "rows", {"test": rows[:6]}, title="S", description="D")
    scene_model(processor, seed=0, hidden_size=32, text_layers=2, vision_layers=1).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    run = ["explain", "--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "rows"), "--output"]
    assert main([*run, str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "with masks of other images" in printed
    found = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert found["model"] == str(tmp_path / "model")
    assert len(found["weights_fingerprint"]) == len(found["rows_fingerprint"]) == 16
    assert found["chosen_on"] + found["measured_on"] == found["n"]
    assert main([*run, str(tmp_path / "out"), "--split", "test[:3]"]) == 1
    assert "explanation of another run (split: 'test', now 'test[:3]'" in capsys.readouterr().err
    assert main([*run, str(tmp_path / "out"), "--split", "test[:3]", "--restart"]) == 0
