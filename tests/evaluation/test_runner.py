import dataclasses

import pytest
import torch
from PIL import Image

from fivl_hf.chat import as_blocks, encode
from fivl_hf.evaluation.answer import generate_answers
from fivl_hf.evaluation.questions import questions
from fivl_hf.evaluation.runner import evaluate_reliance, summarize
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, Answer
from fivl_hf.schema import RowError


def test_first_and_all_questions(rows):
    first = list(questions(rows[:3]))
    every = list(questions(rows[:3], turns="all"))
    assert [q.id for q in first] == [row["id"] for row in rows[:3]]
    assert len(every) == 6
    assert [m["role"] for m in every[1].messages] == ["user", "assistant", "user"]
    assert every[1].answers == (rows[0]["messages"][3]["content"],)
    boxes = [e["boxes"][0] for e in rows[0]["key_expressions"] if e["turn"] == 1]
    assert [list(b) for b in every[1].evidence[0]] == boxes
    with pytest.raises(ValueError, match="'first' or 'all'"):
        list(questions(rows, turns="last"))


def test_a_bad_row_is_named(rows):
    with pytest.raises(RowError, match=r"scene-3-train-1"):
        list(questions([rows[0], {**rows[1], "masks": []}]))


def test_benchmark_rows_keep_all_answers(rows):
    row = {k: v for k, v in rows[0].items() if k != "messages"}
    row |= {"question": "What?", "answers": [rows[0]["messages"][1]["content"], "a ring"], "category": "shapes"}
    row["key_expressions"] = [{**row["key_expressions"][0], "turn": 0}]
    row["masks"] = row["masks"][:1]
    (question,) = questions([row])
    assert question.answers[1] == "a ring"
    assert question.category == "shapes"


def test_batched_answers_equal_answers_one_by_one(model, processor, rows):
    asked = list(questions(rows[:7]))
    asks = [(q.messages, q.images) for q in asked]
    batched = dict(generate_answers(model, processor, asks, batch_size=3, max_new_tokens=5))
    alone = [list(generate_answers(model, processor, [ask], batch_size=1, max_new_tokens=5)) for ask in asks]
    assert batched == {number: answer for number, [(_, answer)] in enumerate(alone)}


def test_answers_are_the_greedy_continuation(model, processor, rows):
    (question,) = questions(rows[:1])
    messages = as_blocks(question.messages, 1)
    ids = encode(processor, [messages], [question.images()], prompt=True).inputs
    with torch.no_grad():
        best = model(**ids).logits[0, -1].argmax()
    asks = [(question.messages, question.images)]
    ((_, answer),) = generate_answers(model, processor, asks, max_new_tokens=1)
    assert answer == processor.tokenizer.decode([best], skip_special_tokens=True).strip()


def test_a_model_that_looks_relies_on_the_evidence(monkeypatch, rows):
    """A perfect seer loses every answer with the evidence, none with random boxes elsewhere."""

    def seer(model, processor, asks, **options):
        for number, (messages, images) in enumerate(asks):
            image = images()[0]
            question = next(q for q in questions(rows) if q.messages == messages and close(q, image))
            x0, y0, x1, y1 = map(int, question.evidence[0][0])
            hidden = image.crop((x0, y0, x1, y1)).getbbox() is None
            yield number, "nothing" if hidden else question.answers[0]

    def close(question, image):
        """The same scene, up to blacked-out pixels."""
        pairs = zip(question.images()[0].getdata(), image.getdata(), strict=True)
        return all(a == b or b == (0, 0, 0) for a, b in pairs)

    monkeypatch.setattr("fivl_hf.evaluation.runner.generate_answers", seer)
    summary, table = evaluate_reliance(None, None, rows[:8])
    assert summary["accuracy"] == 1.0
    assert summary["visual_reliance_score"] == 1.0
    assert summary["random_reliance_score"] == 0.0
    assert summary["random_overlap"] == 0.0
    assert "random_note" not in summary
    assert len(table) == 3 * 8


@pytest.fixture
def same_answer(monkeypatch):
    """Every question is answered with x."""

    def answers(model, processor, asks, **options):
        return ((number, "x") for number in range(len(asks)))

    monkeypatch.setattr("fivl_hf.evaluation.runner.generate_answers", answers)


def test_questions_without_evidence_count_for_accuracy_only(same_answer, rows):
    bare = {**rows[1], "key_expressions": [], "masks": []}
    summary, table = evaluate_reliance(None, None, [rows[0], bare])
    assert summary["questions"] == 2
    assert summary["n"] == 1
    assert len(table) == 4
    assert summary["visual_reliance_score"] is None


def test_rows_without_any_evidence_have_their_own_reason(same_answer, rows):
    summary, _ = evaluate_reliance(None, None, [{**rows[0], "key_expressions": [], "masks": []}])
    assert summary["reason"] == "no question has evidence to black out"


def test_two_questions_of_one_id_are_refused(same_answer, rows):
    with pytest.raises(ValueError, match=f"1 ids belong to several questions, such as '{rows[0]['id']}'"):
        evaluate_reliance(None, None, [rows[0], rows[0]])


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


def test_images_are_opened_as_rgb(rows):
    (question,) = questions(rows[:1])
    assert question.images()[0].mode == "RGB"
    assert isinstance(question.images()[0], Image.Image)
