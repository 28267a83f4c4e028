import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from fivl_hf.augment.scenes import scene_questions, scene_rows
from fivl_hf.jobs.outcomes import Tally
from fivl_hf.masks import decode_mask
from fivl_hf.scenes.questions import is_negative_answer
from fivl_hf.scenes.rendering import COLORS, scene
from fivl_hf.schema import validate_row

ROWS = list(scene_rows("train", 150, seed=11))


def test_every_row_is_checked_and_counted():
    tally = Tally()
    kept = list(scene_rows("test", 40, tally=tally))
    assert tally.read == tally.kept + sum(tally.dropped.values()) == 40
    assert len(kept) == 40
    for row in kept:
        validate_row(row)


def test_same_seed_same_rows_other_seed_other_rows():
    assert list(scene_rows("train", 5, seed=11)) == ROWS[:5]
    assert list(scene_rows("train", 3, seed=11, start=2)) == ROWS[2:5]
    assert next(scene_rows("train", 5, seed=12))["images"] != ROWS[0]["images"]
    with pytest.raises(ValueError, match="split must be one of"):
        next(scene_rows("dev", 1))


def test_splits_share_no_image():
    images = [row["images"][0]["bytes"] for split in ("train", "test") for row in scene_rows(split, 100)]
    assert len(set(images)) > 195


def test_masks_are_exact():
    for row in ROWS:
        pixels = np.asarray(Image.open(io.BytesIO(row["images"][0]["bytes"])))
        for expression, mask in zip(row["key_expressions"], row["masks"], strict=True):
            color = np.array(COLORS[expression["text"].split()[0]])
            assert np.array_equal((pixels == color).all(axis=-1), decode_mask(mask))


def truth(objects, question):
    """The answer of a question, found again from the objects' places."""
    words = question.rstrip("?").split()
    by_name = {o.name: o for o in objects}
    if question.startswith("What color"):
        return next(o.name for o in objects if o.shape == words[-1])
    if question.startswith("What shape"):
        return next(o.name for o in objects if o.color == words[-1])
    anchor = by_name[" ".join(words[-2:])]
    x, y = anchor.center
    there = {
        "left": lambda o: o.center[0] < x,
        "right": lambda o: o.center[0] > x,
        "above": lambda o: o.center[1] < y,
        "below": lambda o: o.center[1] > y,
    }[words[2]]
    (found,) = [o.name for o in objects if o is not anchor and there(o)]
    return found


def test_answers_are_true_and_questions_have_one_answer():
    for row in ROWS:
        objects = scene(row["id"]).objects
        assert len({o.color for o in objects}) == len({o.shape for o in objects}) == len(objects)
        for question, answer in zip(row["messages"][::2], row["messages"][1::2], strict=True):
            assert truth(objects, question["content"]) in answer["content"]


def test_all_kinds_of_questions_and_no_guessable_answer():
    kinds = Counter(" ".join(row["messages"][0]["content"].split()[:2]) for row in ROWS)
    assert min(kinds["What color"], kinds["What shape"], kinds["What is"]) > 25
    answers = Counter(row["messages"][1]["content"] for row in ROWS)
    assert max(answers.values()) < 12


def test_a_kind_that_a_style_does_not_have_is_refused():
    with pytest.raises(ValueError, match="photographs scenes have no questions of kind color, only of relation"):
        scene_questions("test", 10, style="photographs", kinds=("color", "count"))
    kinds = Counter(row["category"] for row in scene_questions("test", 8, style="photographs"))
    assert kinds == dict.fromkeys(("relation", "between", "count", "presence"), 2)


def test_only_questions_with_a_negative_answer_have_no_evidence():
    for row in scene_questions("test", 140):
        assert bool(row["key_expressions"]) != is_negative_answer(row["answers"][0]), row["answers"]
