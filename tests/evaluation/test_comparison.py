import json
from dataclasses import replace

import numpy as np
import pytest

from fivl_hf.evaluation.comparison import Evaluated, compare, comparison_figure, comparison_lines, read_evaluated
from fivl_hf.evaluation.scores import collect
from fivl_hf.evaluation.table import Answer, AnswerTable


def evaluated(name, seed, rate, still, n=300, references=("yes",), conditions=("original", "removed"), benchmark=""):
    rng = np.random.default_rng(seed)
    table = []
    for i in range(n):
        right = float(rng.random() < rate)
        for condition, score in (("original", right), ("removed", right * (rng.random() < still))):
            if condition in conditions:
                table.append(Answer(str(i), condition, "q", references, "a", score, picture=str(i // 2)))
    return Evaluated(name, collect(table), benchmark=benchmark)


def test_two_models_that_differ_and_two_that_do_not():
    models = [evaluated("a", 0, 0.8, 0.2), evaluated("b", 1, 0.5, 0.9), evaluated("c", 2, 0.8, 0.2)]
    compared = compare(models, permutations=2000)
    result = compared["benchmarks"][""]
    assert (result["n"], result["pictures"]) == (300, 150)
    pairs = {tuple(pair["models"]): pair for pair in result["pairs"]}
    assert pairs["a", "b"]["accuracy_p_adjusted"] < 0.01
    assert pairs["a", "b"]["reliance_p_adjusted"] < 0.02
    assert pairs["a", "c"]["reliance_p_adjusted"] > 0.05
    assert pairs["a", "b"]["reliance_difference"] > 0.5
    lines = comparison_lines(compared)
    assert (
        lines[0]
        == "300 questions with evidence about 150 images, answered by all, scored by exact, the evidence removed"
    )
    assert [line.split()[0] for line in lines[2:5]] == ["a", "b", "c"]
    assert [line[:5] for line in lines[-3:]] == ["a − b", "a − c", "b − c"]


@pytest.mark.slow
@pytest.mark.parametrize("per_picture", [1, 3])
def test_true_hypotheses_are_rejected_as_often_as_they_should_be(per_picture):
    """1,000 pairs of equally good models, whose answers about one picture are alike: between 4 and 6% at 5%."""
    rng = np.random.default_rng(0)
    rejected = {"accuracy_p": 0, "reliance_p": 0}
    for trial in range(1000):
        models = [equally_good(name, rng, 60, per_picture) for name in "ab"]
        result = compare(models, permutations=400, seed=trial)["benchmarks"][""]
        for what in rejected:
            rejected[what] += result["pairs"][0][what] < 0.05
    assert result["accuracy_test"] == ("mid-p McNemar" if per_picture == 1 else "permutation of images")
    assert all(40 <= count <= 60 for count in rejected.values()), rejected


def equally_good(name, rng, pictures, per_picture):
    """Half of how hard a question is for the model lies in its picture."""
    table = []
    for picture in range(pictures):
        hard, near = rng.random(2)
        for question in range(per_picture):
            right = float(hard + rng.random() < 1.2)
            still = right * (near + rng.random() < 1)
            for condition, score in (("original", right), ("removed", still)):
                table.append(
                    Answer(f"{picture} {question}", condition, "q", ("yes",), "a", score, picture=str(picture))
                )
    return Evaluated(name, collect(table))


def test_only_common_questions_are_compared():
    a, b = evaluated("a", 0, 0.8, 0.2), evaluated("b", 1, 0.8, 0.2)
    assert compare([a, evaluated("b", 1, 0.8, 0.2, n=40)], permutations=10)["benchmarks"][""]["n"] == 40
    with pytest.raises(ValueError, match="no question was answered by all models"):
        compare([a, Evaluated("b", collect([]))])
    with pytest.raises(ValueError, match="question '0' has other references"):
        compare([a, evaluated("b", 1, 0.8, 0.2, references=("no",))])
    with pytest.raises(ValueError, match="scored by different scorers .a by exact, b by vqa.: name one with --scorer"):
        compare([a, replace(b, scorer_name="vqa")])
    with pytest.raises(ValueError, match="b was not asked under 'removed'"):
        compare([a, evaluated("b", 1, 0.8, 0.2, conditions=["original"])])
    hopeless = compare([evaluated("a", 0, 0.0, 0.2), b], permutations=10)["benchmarks"][""]["pairs"][0]
    assert (hopeless["reliance_difference"], hopeless["reliance_p"]) == (None, None)
    assert hopeless["reason"] == "no answer is right on the original images"
    with pytest.raises(ValueError, match="at least two evaluations"):
        compare([a])


def test_folders_are_read(tmp_path):
    table = AnswerTable(tmp_path / "answers.jsonl")
    table.add([Answer("1", "original", "q", ("yes",), "Yes, it is.", 0.0)])
    assert read_evaluated([tmp_path])[0].scores.of("original") == 0.0
    assert read_evaluated([tmp_path], "pope-llava")[0].scores.of("original") == 1.0
    (tmp_path / "reliance.json").write_text('{"scoring": "contains"}')
    (scored,) = read_evaluated([tmp_path])
    assert (scored.name, scored.scorer_name, scored.scores.of("original")) == (tmp_path.name, "contains", 1.0)
    with pytest.raises(FileNotFoundError, match="holds no answers.jsonl: it is not the output of fivl evaluate"):
        read_evaluated([tmp_path / "none"])


def test_models_and_benchmarks(tmp_path):
    """Names come from what was recorded, and a mean is of all benchmarks or None."""
    folders = []
    for model, benchmark in (("one", "pope"), ("two", "pope"), ("one", "gqa")):
        folder = tmp_path / f"{model}-{benchmark}"
        folder.mkdir()
        AnswerTable(folder / "answers.jsonl").add(
            Answer(str(i), condition, "q", ("yes",), "yes", float(i < right), picture=str(i))
            for condition, right in (("original", 8), ("removed", 4 if model == "one" else 6))
            for i in range(10)
        )
        about = {"model": f"me/{model}", "dataset": f"data/{benchmark}", "split": "test"}
        (folder / "reliance.json").write_text(json.dumps(about))
        folders.append(folder)
    found = read_evaluated(folders, "exact")
    assert [(each.name, each.benchmark) for each in found] == [
        ("one", "pope test"),
        ("two", "pope test"),
        ("one", "gqa test"),
    ]
    # Scored again, every answer is right.
    assert compare(found, permutations=10)["means"]["one"] == {"visual_reliance_score": 0.0, "accuracy": 1.0}
    with pytest.raises(ValueError, match="of one model on one benchmark"):
        read_evaluated([*folders, folders[0]])


def test_an_overview_of_benchmarks_and_its_correlation():
    rates = (0.3, 0.5, 0.7, 0.9)
    models = [
        evaluated(f"m{i}", i, rate, 1 - rate, benchmark=name)
        for name in ("pope", "gqa")
        for i, rate in enumerate(rates)
        if name == "pope" or i
    ]
    result = compare(models, permutations=10)
    reason = "it was not asked all benchmarks"
    assert result["means"]["m0"] == {"visual_reliance_score": None, "accuracy": None, "reason": reason}
    pope, gqa = (result["benchmarks"][name]["models"]["m1"]["visual_reliance_score"] for name in ("pope", "gqa"))
    assert result["means"]["m1"]["visual_reliance_score"] == pytest.approx((pope + gqa) / 2)
    assert result["correlation"]["pope"]["value"] == 1.0
    assert result["correlation"]["gqa"]["reason"] == "fewer than 4 models"
    lines = comparison_lines(result)
    assert lines[0] == "pope"
    assert lines[-1].startswith("rank correlation of accuracy and reliance over 4 models, pope: 1.00 [")
    assert any(line.startswith("m0 ") and line.split()[3:] == ["–", "–", "(–)"] for line in lines)


def test_models_are_drawn_by_accuracy_and_score(tmp_path):
    models = [
        evaluated(name, seed, 0.3 + 0.1 * seed, 0.8 - 0.15 * seed, benchmark=benchmark)
        for benchmark in ("GQA", "POPE")
        for seed, name in enumerate("abcd")
    ]
    figure = comparison_figure(compare(models, permutations=10))
    left, right = figure.axes
    assert [axis.get_title().split("\n")[0] for axis in (left, right)] == ["GQA", "POPE"]
    assert "rank correlation 1.00" in left.get_title()
    assert [text.get_text() for text in left.texts] == list("abcd")
    figure.savefig(tmp_path / "comparison.png")
    nothing = [evaluated(name, 0, 0, 0) for name in "ab"]
    assert comparison_figure(compare(nothing, permutations=10)) is None
