"""Which conditions each question is asked under, and what each shows of its image."""

import numpy as np
import pytest

from fivl_hf.evaluation.plan import Plan
from fivl_hf.masks import decode_mask


def hidden(request):
    """The pixels (H, W) that a condition made black."""
    return ~np.asarray(request.open_images()[0]).any(axis=-1)


def test_random_boxes_do_not_depend_on_the_questions_beside(rows):
    def boxes(chosen, **options):
        return {request.id: request.boxes for request in Plan(chosen, ["random"], **options) if request.boxes}

    alone, among = boxes(rows[3:4]), boxes(rows[:6])
    assert among[rows[3]["id"]] == alone[rows[3]["id"]]
    assert len(among) == 6
    assert boxes(rows[:6], seed=1) != among


def test_masks_hide_less_than_boxes_and_dilation_more(rows):
    shown = {
        (evidence, dilation): {
            request.condition: request
            for request in Plan(rows[:1], ["removed", "kept"], evidence=evidence, dilation=dilation)
        }
        for evidence, dilation in (("boxes", 0), ("masks", 0), ("masks", 2))
    }
    boxes, masks, grown = (hidden(by["removed"]) for by in shown.values())
    first = [mask for mask, each in zip(rows[0]["masks"], rows[0]["key_expressions"], strict=True) if not each["turn"]]
    # Scenes have no black pixels.
    assert np.array_equal(masks, np.any([decode_mask(mask) for mask in first], axis=0))
    assert masks.sum() < boxes.sum()
    assert masks.sum() < grown.sum()
    for by in shown.values():
        assert np.array_equal(hidden(by["removed"]), ~hidden(by["kept"]))


def test_questions_without_evidence_are_asked_under_three_conditions(rows):
    bare = {**rows[0], "key_expressions": [], "masks": []}
    plan = Plan([bare, rows[1]], ["removed", "kept", "blank", "text-only", "other"])
    asked = [(request.id, request.condition) for request in plan]
    assert [condition for id, condition in asked if id == rows[0]["id"]] == ["original", "blank", "text-only"]
    # There is nothing else on the second image.
    assert len(asked) == 8
    assert plan.count == 9
    assert [request.image_count for request in plan if request.condition == "text-only"] == [0, 0]


def test_a_plan_can_be_gone_through_again(rows):
    plan = Plan((row for row in rows[:2]), ["removed"])
    assert [request.id for request in plan] == [request.id for request in plan]
    with pytest.raises(ValueError, match="evidence must be one of boxes, masks, got 'points'"):
        Plan(rows[:1], evidence="points")
    with pytest.raises(ValueError, match="dilation must be at least 0, got -1"):
        Plan(rows[:1], dilation=-1)
    with pytest.raises(ValueError, match="no condition 'masked'"):
        Plan(rows[:1], ["masked"])
