import dataclasses

import pytest

from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.answerers.protocol import Generated
from fivl_hf.evaluation.runner import evaluate_answers, evaluate_reliance
from fivl_hf.evaluation.summary import summarize
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, Answer


class Told:
    """Answers what a function says."""

    identity, details = {}, {}

    def __init__(self, answer):
        self._answer = answer

    def answers(self, requests):
        return ((request, Generated(self._answer(request))) for request in requests)


def test_a_model_that_looks_relies_on_the_evidence(monkeypatch, rows):
    """A perfect seer loses every answer with the evidence, none with random boxes elsewhere."""

    def seer(self, requests):
        for request in requests:
            image = request.open_images()[0]
            question = request.question
            assert close(question, image)
            x0, y0, x1, y1 = map(int, question.evidence[0][0])
            hidden = image.crop((x0, y0, x1, y1)).getbbox() is None
            yield request, Generated("nothing" if hidden else question.answers[0])

    def close(question, image):
        """The same scene, up to blacked-out pixels."""
        pairs = zip(question.images()[0].getdata(), image.getdata(), strict=True)
        return all(a == b or b == (0, 0, 0) for a, b in pairs)

    monkeypatch.setattr(TransformersAnswerer, "answers", seer)
    summary, table = evaluate_reliance(None, None, rows[:8])
    assert summary["accuracy"] == 1.0
    assert summary["visual_reliance_score"] == 1.0
    assert summary["random_reliance_score"] == 0.0
    assert summary["random_overlap"] == 0.0
    assert "random_note" not in summary
    assert len(table) == 3 * 8


def test_questions_without_evidence_count_for_accuracy_only(same_answer, rows):
    bare = {**rows[1], "key_expressions": [], "masks": []}
    summary, table = evaluate_reliance(None, None, [rows[0], bare])
    assert summary["questions"] == 2
    assert summary["n"] == 1
    assert len(table) == 4
    assert summary["visual_reliance_score"] is None


def test_rows_without_any_evidence_have_their_own_reason(same_answer, rows):
    summary, _ = evaluate_reliance(None, None, [{**rows[0], "key_expressions": [], "masks": []}])
    assert summary["reason"] == "no question has evidence to remove"


def scored(id, category, original, removed, overlap=0.0):
    answer = Answer(id, ORIGINAL, "q", ("a",), "a", original, category)
    return [
        answer,
        dataclasses.replace(answer, condition=REMOVED, score=removed),
        dataclasses.replace(answer, condition=RANDOM, overlap=overlap),
    ]


def test_summary_by_category():
    answers = scored("1", "x", 1, 0) + scored("2", "x", 1, 1) + scored("3", "y", 1, 0)
    summary = summarize(answers)
    assert summary["visual_reliance_score"] == pytest.approx(2 / 3)
    assert summary["by_category"]["x"]["visual_reliance_score"] == pytest.approx(0.5)
    assert summary["random_reliance_score"] == 0.0


def test_many_categories_are_summed_up():
    """The largest have a line of their own, the others share one."""
    answers = [a for i in range(60) for a in scored(str(i), str(i), 1, 0)] + scored("again", "7", 1, 0)
    found = summarize(answers, resamples=10)["by_category"]
    assert len(found) == 50
    assert found["7"]["n"] == 2
    assert found["other"]["n"] == 11
    assert "other" not in summarize(answers[: 3 * 50], resamples=10)["by_category"]


def test_a_control_that_takes_evidence_away_is_told():
    assert "random_note" not in summarize(scored("1", "", 1, 0, overlap=0.1))
    assert summarize(scored("1", "", 1, 0, overlap=0.44))["random_note"].startswith("44% of the random boxes' area")


def test_a_benchmark_has_its_scorer_and_its_suffix(rows):
    """POPE's rows are asked for short answers, which may still be sentences."""
    row = {key: value for key, value in rows[0].items() if key != "messages"}
    pope = {**row, "question": "Is there a ring?", "answers": ["yes"], "category": "yes/random", "source": "POPE"}
    pope |= {"key_expressions": [], "masks": []}
    asked = []

    def answer(request):
        asked.append(request.messages[-1]["content"])
        return "Yes, there is."

    summary, table = evaluate_answers(Told(answer), [pope], conditions=["original"])
    assert asked == ["Is there a ring?\nAnswer the question using a single word or phrase."]
    assert (summary["scoring"], summary["accuracy_all_questions"]) == ("pope-vlmevalkit", 1.0)
    assert next(iter(table)).prompt == asked[0]
    evaluate_answers(Told(answer), [pope], conditions=["original"], prompt_suffix="")
    assert asked[1] == "Is there a ring?"


def test_conditions_are_shown_as_they_say(rows):
    """Two questions about one image: "other" hides what the other one is about."""
    first, second = rows[0], {**rows[0], "id": "twin"}
    x0, y0, x1, y1 = rows[0]["key_expressions"][0]["boxes"][0]
    far = [0.0, 0.0, 3.0, 3.0] if x0 > 4 or y0 > 4 else [36.0, 36.0, 39.0, 39.0]
    second["key_expressions"] = [{**rows[0]["key_expressions"][0], "boxes": [far]}]
    second["masks"] = rows[0]["masks"][:1]
    first = {**first, "key_expressions": first["key_expressions"][:1], "masks": first["masks"][:1]}
    shown = {}

    def answer(request):
        shown[request.condition, request.id] = [image.copy() for image in request.open_images()]
        return "x"

    names = ["other", "kept", "text-only", "blank"]
    _, table = evaluate_answers(Told(answer), [first, second], conditions=names)
    assert len(table) == 5 * 2
    hidden = shown["other", first["id"]][0].crop(tuple(map(int, far)))
    assert hidden.getbbox() is None
    assert shown["other", first["id"]][0].crop(tuple(map(int, (x0, y0, x1, y1)))).getbbox() is not None
    assert shown["kept", first["id"]][0].getpixel((int(far[0]), int(far[1]))) == (0, 0, 0)
    assert shown["text-only", first["id"]] == []
    by = {(each.id, each.condition): each for each in table}
    assert by["twin", "other"].boxes == (((x0, y0, x1, y1),),)
    assert by["twin", "original"].picture == by[first["id"], "original"].picture
