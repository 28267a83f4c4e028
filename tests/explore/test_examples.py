from types import SimpleNamespace

import numpy as np

from fivl_hf.explore.examples import GUESSES, LOOKS, aligned_head, choose_examples, with_notes
from fivl_hf.storage import with_encoded_images


def test_questions_that_open_a_conversation_are_drawn(dataset, rows):
    encoded = with_encoded_images(dataset)
    drawn = choose_examples(encoded, 5)
    assert len(drawn) == 5
    assert drawn == choose_examples(encoded, 5)
    by_id = {row["id"]: row for row in rows}
    for each in drawn:
        row = by_id[each.id]
        assert each.question == row["messages"][0]["content"]
        assert each.reference == row["messages"][1]["content"]
        first = [expression for expression in row["key_expressions"] if expression["turn"] == 0]
        assert np.allclose(each.boxes, [box for expression in first for box in expression["boxes"]])
    assert len(choose_examples(encoded, 1000)) == len(rows)


def test_rows_without_evidence_or_with_several_images_are_left_out(rows):
    none = {**rows[0], "key_expressions": [], "masks": []}
    two = {**rows[1], "images": rows[1]["images"] * 2}
    wrong = {
        **rows[4],
        "key_expressions": [{**rows[4]["key_expressions"][0], "start": 1}],
        "masks": rows[4]["masks"][:1],
    }
    assert [each.id for each in choose_examples([none, two, wrong, rows[2]], 5)] == [rows[2]["id"]]
    benchmark = {key: value for key, value in rows[3].items() if key != "messages"}
    whole = [{**each, "turn": 0, "start": -1, "end": -1, "text": "Q"} for each in rows[3]["key_expressions"]]
    benchmark |= {"question": "Q?", "answers": ["A"], "category": "", "key_expressions": whole}
    assert choose_examples([benchmark], 1)[0].reference == "A"


class Scripted:
    """Answers as told: of each question, the answer, the one without evidence, and by how much the first falls."""

    def __init__(self, told):
        self.told = told

    def ask(self, image, question):
        return SimpleNamespace(question=question, answer=self.told[question][0], log_probability=0.0)

    def changed(self, answered, boxes, how):
        _, answer, drop = self.told[answered.question]
        return SimpleNamespace(answer=answer, log_probabilities=(-drop,))


def test_the_clearest_of_both_kinds_are_noted(rows):
    examples = choose_examples(rows, 6)
    questions = [f"q{i}" for i in range(6)]
    told = [("Red.", "blue", 3), ("red", "blue", 5), ("blue", "red", 9), ("red", "red", 0.5), ("red", "red", 0.1)]
    told.append(("blue", "blue", -1))
    asked = [
        SimpleNamespace(**{**vars(each), "question": question, "reference": "red"})
        for each, question in zip(examples, questions, strict=True)
    ]
    asked = [type(examples[0])(**vars(each)) for each in asked]
    noted = with_notes(Scripted(dict(zip(questions, told, strict=True))), asked)
    # Right ones first: q1 falls more than q0, q4 less than q3; q2 and q5 are wrong.
    assert [(each.question, each.note) for each in noted[:2]] == [("q1", LOOKS), ("q4", GUESSES)]
    assert [each.note for each in noted[2:]] == [""] * 4
    only = with_notes(Scripted({"q2": told[2]}), [asked[2]])
    assert [each.note for each in only] == [""]  # a wrong answer teaches nothing


def test_a_word_has_the_mask_of_its_expression(rows):
    (example,) = choose_examples(rows[:1], 1)
    text = example.expressions[0]
    # The first one is part of another word.
    answer = f"Well, {text}s {text.upper()} it is"
    words, place = [], 0
    for word in answer.split():
        start = answer.index(word, place)
        words.append(SimpleNamespace(start=start, end=start + len(word)))
        place = start + len(word)
    answered = SimpleNamespace(answer=answer, words=words)
    masks = [example.mask_of(answered, number) for number in range(len(words))]
    inside = [mask is not None for mask in masks]
    count = len(text.split())
    assert inside == [False, *[False] * count, *[True] * count, False, False]


def test_the_aligned_head_is_one_of_the_models(explorer, dataset):
    rows = with_encoded_images(dataset)
    layer, head = aligned_head(explorer, rows, rows["id"][:4])
    assert 0 <= layer < explorer.layers
    assert 0 <= head < explorer.heads
    assert aligned_head(explorer, rows, []) is None
