"""A question's images again, and the numbers that other harnesses report."""

import numpy as np

from fivl_hf.evaluation.integrations.shared import METRICS, images_under, metrics, scored_answer
from fivl_hf.evaluation.plan import Plan


def test_images_are_those_of_the_plan(rows):
    options = {"seed": 3, "dilation": 2.0}
    for request in Plan(rows[:3], ["removed", "random", "kept", "text-only"], **options):
        row = next(row for row in rows if row["id"] == request.id)
        again = images_under(row, request.condition, **options)
        shown = request.open_images()
        assert len(again) == len(shown) == (request.condition != "text-only")
        assert all(np.array_equal(a, b) for a, b in zip(again, shown, strict=True))


def test_boxes_of_other_questions_are_given(rows):
    row = rows[0]
    [image] = images_under(row, "other", others=[[(0, 0, 4, 6)]])
    [original] = images_under(row, "original")
    changed = (np.asarray(image) != np.asarray(original)).any(axis=-1)
    assert changed[:6, :4].all()
    assert changed.sum() == 24


def test_numbers_that_are_not_defined_are_none():
    answers = [
        scored_answer(str(question), condition, value, picture=str(question))
        for question in range(4)
        for condition, value in (("original", 1.0), ("removed", question % 2))
    ]
    found = metrics(answers)
    assert set(found) == set(METRICS)
    assert found["visual_reliance_score"] == 0.5
    assert 0 <= found["reliance_low"] < 0.5 < found["reliance_high"] <= 1
    assert found["random_reliance_score"] is found["reliance_over_random"] is None
