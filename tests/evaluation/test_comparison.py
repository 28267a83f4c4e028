from dataclasses import replace

import numpy as np
import pytest

from fivl_hf.evaluation.comparison import Evaluated, compare, comparison_lines, read_evaluated
from fivl_hf.evaluation.table import Answer, AnswerTable, by_question


def evaluated(name, seed, rate, still, n=300, references=("yes",)):
    rng = np.random.default_rng(seed)
    table = []
    for i in range(n):
        right = float(rng.random() < rate)
        for condition, score in (("original", right), ("removed", right * (rng.random() < still))):
            table.append(Answer(str(i), condition, "q", references, "a", score, picture=str(i // 2)))
    return Evaluated(name, by_question(table))


def test_two_models_that_differ_and_two_that_do_not():
    models = [evaluated("a", 0, 0.8, 0.2), evaluated("b", 1, 0.5, 0.9), evaluated("c", 2, 0.8, 0.2)]
    result = compare(models, permutations=2000)
    assert (result["n"], result["pictures"]) == (300, 150)
    pairs = {tuple(pair["models"]): pair for pair in result["pairs"]}
    assert pairs["a", "b"]["accuracy_p_adjusted"] < 0.001
    assert pairs["a", "b"]["reliance_p_adjusted"] < 0.02
    assert pairs["a", "c"]["reliance_p_adjusted"] > 0.05
    assert pairs["a", "b"]["reliance_difference"] > 0.5
    lines = comparison_lines(result)
    assert lines[0] == "300 questions with evidence about 150 images, answered by all, scored by exact"
    assert [line.split()[0] for line in lines[2:5]] == ["a", "b", "c"]
    assert [line[:5] for line in lines[-3:]] == ["a − b", "a − c", "b − c"]


def test_only_common_questions_are_compared():
    a, b = evaluated("a", 0, 0.8, 0.2), evaluated("b", 1, 0.8, 0.2)
    fewer = Evaluated("b", {id: by for id, by in b.answers.items() if int(id) < 40})
    assert compare([a, fewer], permutations=10)["n"] == 40
    with pytest.raises(ValueError, match="no question was answered by all models"):
        compare([a, Evaluated("b", {})])
    with pytest.raises(ValueError, match="question '0' has other references"):
        compare([a, evaluated("b", 1, 0.8, 0.2, references=("no",))])
    with pytest.raises(ValueError, match="scored by different scorers .a by exact, b by vqa.: name one with --scorer"):
        compare([a, replace(b, scorer_name="vqa")])
    only_original = {id: {"original": by["original"]} for id, by in b.answers.items()}
    with pytest.raises(ValueError, match="b was not asked under 'removed'"):
        compare([a, Evaluated("b", only_original)])
    hopeless = compare([evaluated("a", 0, 0.0, 0.2), b], permutations=10)["pairs"][0]
    assert (hopeless["reliance_difference"], hopeless["reliance_p"]) == (None, None)
    with pytest.raises(ValueError, match="at least two evaluations"):
        compare([a])


def test_folders_are_read(tmp_path):
    table = AnswerTable(tmp_path / "answers.jsonl")
    table.add([Answer("1", "original", "q", ("yes",), "Yes, it is.", 0.0)])
    assert read_evaluated(tmp_path, "m").answers["1"]["original"].score == 0.0
    assert read_evaluated(tmp_path, "m", "pope-llava").answers["1"]["original"].score == 1.0
    (tmp_path / "reliance.json").write_text('{"scoring": "contains"}')
    scored = read_evaluated(tmp_path, "m")
    assert (scored.scorer_name, scored.answers["1"]["original"].score) == ("contains", 1.0)
    with pytest.raises(FileNotFoundError, match="holds no answers.jsonl: it is not the output of fivl evaluate"):
        read_evaluated(tmp_path / "none", "m")
