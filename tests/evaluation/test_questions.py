import pytest
from PIL import Image

from fivl_hf.evaluation.questions import questions
from fivl_hf.evaluation.runner import evaluate_reliance
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


def test_two_questions_of_one_id_are_refused(same_answer, rows):
    with pytest.raises(ValueError, match=f"the id '{rows[0]['id']}' belongs to several questions"):
        evaluate_reliance(None, None, [rows[0], rows[0]])


def test_images_are_opened_as_rgb(rows):
    (question,) = questions(rows[:1])
    assert question.images()[0].mode == "RGB"
    assert isinstance(question.images()[0], Image.Image)
