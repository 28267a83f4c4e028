"""A language model as a scorer, against a scripted server."""

import json
import shutil

import pytest
from scripted_server import Answer as Reply

from fivl_hf.cli.main import main
from fivl_hf.evaluation.judge import answer_scorer, judge_answers
from fivl_hf.evaluation.report import write_report
from fivl_hf.evaluation.summary import rescored
from fivl_hf.evaluation.table import Answer, AnswerTable
from fivl_hf.files.atomic import write_json
from fivl_hf.llm.many import ManyRequests

NAME = "judge:grader"


def asked(body):
    return json.loads(body["messages"][-1]["content"])


def grader(body, number):
    """Right if the reference is in the answer; silence is no answer."""
    about = asked(body)
    right = any(each in about["answer"] for each in about["references"])
    verdict = "no_answer" if not about["answer"] else "correct" if right else "incorrect"
    return Reply(json.dumps({"verdict": verdict}))


def answers():
    return [
        Answer(id, condition, "What is it?", ("a dog",), text, 0.0, picture=id, finish_reason=reason)
        for id, condition, text, reason in [
            ("1", "original", "It is a dog, I think.", "stop"),
            ("1", "removed", "It is a cat.", "stop"),
            ("2", "original", "It is a dog, I think.", "stop"),
            ("2", "removed", "", "stop"),
            ("3", "original", "I may not say that it is a dog.", "refusal"),
            ("3", "removed", "a dog", "stop"),
        ]
    ]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    AnswerTable(tmp_path / "out" / "answers.jsonl").add(answers())
    write_json(tmp_path / "out" / "reliance.json", {"model": "m", "dataset": "d", "split": "test", "scoring": "exact"})
    return tmp_path / "out"


def test_verdicts_are_scores_and_equal_answers_are_judged_once(serve, settings, tmp_path):
    server = serve(grader)
    many = ManyRequests(settings(server, concurrency=1), tmp_path / "verdicts.sqlite")
    judge_answers(answers, many)
    # Not the refusal, and what was said twice only once.
    assert sum(server.asked.values()) == 4
    assert asked(server.bodies[0]) == {
        "question": "What is it?",
        "references": ["a dog"],
        "answer": "It is a dog, I think.",
    }
    found = [(each.score, each.parsed) for each in rescored(answers(), NAME.replace("grader", "m"), many.cache)]
    right, wrong, none = (1.0, True), (0.0, True), (0.0, False)
    # A refusal is not parsed, whatever the judge makes of its text.
    assert found == [right, wrong, right, none, none, right]
    # Another judge has said nothing.
    assert [each.parsed for each in rescored(answers(), "judge:other", many.cache)] == [False] * 6


def test_the_command_judges_and_comparisons_need_no_model(folder, serve, capsys, monkeypatch):
    server = serve(grader)
    command = ["score", str(folder), "--scorer", NAME, "--endpoint", server.url]
    assert main([*command, "--max-requests", "2"]) == 1
    assert "the budget of 2 requests is spent" in capsys.readouterr().err
    assert json.loads((folder / "reliance.json").read_text())["scoring"] == "exact"
    assert main(command) == 0
    # Those of the first run were kept.
    assert set(server.asked.values()) == {1}
    result = json.loads((folder / "reliance.json").read_text())
    assert (result["scoring"], result["accuracy"], result["not_judged"]) == (NAME, pytest.approx(2 / 3), {})
    assert result["conditions"]["original"]["unparsed"] == 1
    server.close()
    (folder / "reliance.json").write_text(json.dumps({**result, "accuracy": None}))
    assert main(["score", str(folder)]) == 0
    assert json.loads((folder / "reliance.json").read_text())["accuracy"] == result["accuracy"]
    assert NAME in write_report(folder).read_text()
    capsys.readouterr()
    shutil.copytree(folder, folder.with_name("again"))
    both = ["compare", str(folder), str(folder.with_name("again")), "--output", str(folder)]
    assert main(both) == 0
    assert json.loads((folder / "comparison.json").read_text())["benchmarks"]["d test"]["scoring"] == NAME
    assert main([*both, "--scorer", "judge:other"]) == 1
    assert f"has not been judged: run fivl score {folder} --scorer judge:other" in capsys.readouterr().err


def test_unusable_verdicts_are_counted(folder, serve, capsys):
    server = serve(lambda body, number: Reply("perhaps") if "cat" in asked_text(body) else grader(body, number))
    assert main(["score", str(folder), "--scorer", NAME, "--endpoint", server.url]) == 0
    result = json.loads((folder / "reliance.json").read_text())
    assert result["not_judged"] == {"the language model's reply cannot be used": 1}
    assert "answers without a verdict: 1 × " in capsys.readouterr().out
    assert result["conditions"]["removed"]["unparsed"] == 2
    # Scored again without the judge, they are still counted.
    assert main(["score", str(folder), "--resamples", "20"]) == 0
    assert "answers without a verdict: 1 × " in capsys.readouterr().out
    assert main(["score", str(folder), "--scorer", "judge:"]) == 1
    assert "'judge:' needs the name of a model, as in judge:gpt-4o" in capsys.readouterr().err


def asked_text(body):
    return body["messages"][1]["content"]


def test_a_judge_needs_answers_that_are_there():
    with pytest.raises(ValueError, match="a judge scores answers that are there already: fivl score FOLDER --scorer"):
        answer_scorer(NAME)
