import json
from dataclasses import asdict

import pytest

from fivl_hf.evaluation.table import Answer, AnswerTable, read_answers


def test_answers_of_another_format_are_named(tmp_path):
    file = tmp_path / "answers.jsonl"
    for content in ('{"id": "1"}\n', "[]\n", "no JSON\n"):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"answers.jsonl, line 1, is not an answer of fivl evaluate"):
            AnswerTable(file)
    answer = Answer("1", "original", "q", ("a", "b"), "a", 1.0, boxes=(((0.0, 1.0, 2.0, 3.0),), ()))
    file.write_text(json.dumps({**asdict(answer), "condition": "inverted"}) + "\n")
    with pytest.raises(ValueError, match="line 1, is not an answer of fivl evaluate: there is no condition 'inverted'"):
        AnswerTable(file)
    for wrong in ({"answer": 5}, {"id": 7}, {"references": "ab"}, {"prompt": None}):
        file.write_text(json.dumps({**asdict(answer), **wrong}) + "\n")
        with pytest.raises(ValueError, match=f"line 1, is not an answer of fivl evaluate: {next(iter(wrong))} must be"):
            AnswerTable(file)
    file.with_suffix(".parquet").write_text("no table")
    with pytest.raises(ValueError, match="answers.parquet is not a Parquet file"):
        list(read_answers(file.with_suffix(".parquet")))
    file.unlink()
    AnswerTable(file).add([answer])
    assert list(AnswerTable(file)) == [answer]
    assert json.loads(file.read_text())["references"] == ["a", "b"]
