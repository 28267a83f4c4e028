import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fivl_hf import vision_modeling_loss
from fivl_hf.training.targets import (
    IGNORE,
    TaskCounts,
    joint_loss,
    merge_targets,
    patch_owners,
    scheduled_weight,
    values_of_owners,
    vision_loss_weights,
)


def targets_of(coverage, ids, background_id=IGNORE, **rules):
    """The token that each visual token is to predict, as the collator puts the two steps together."""
    ids = np.asarray(ids, dtype=np.int64)
    return values_of_owners(patch_owners(coverage, ids != IGNORE, **rules), ids, background_id, IGNORE)


def naive_targets(coverage, ids, visible, max_coverage, min_coverage, overlap):
    """Patch by patch, as the paper states the rules."""
    masks = []
    for m in range(len(ids)):
        covered = [p for p in range(coverage.shape[1]) if visible[m][p] and coverage[m][p] > min_coverage]
        share_is_fine = len(covered) <= max_coverage * sum(visible[m])
        masks.append(covered if share_is_fine and ids[m] != -100 else None)
    everywhere = [
        [p for p in range(coverage.shape[1]) if visible[m][p] and coverage[m][p] > min_coverage]
        for m in range(len(ids))
    ]
    order = range(len(ids))
    if overlap == "smallest":
        order = sorted(order, key=lambda m: len(everywhere[m]))
    labels = []
    for p in range(coverage.shape[1]):
        claims = [m for m in order if masks[m] is not None and p in masks[m]]
        labels.append(ids[claims[0]] if claims else -100)
    return labels


shapes = st.tuples(st.integers(1, 5), st.integers(1, 12))


@given(
    shapes.flatmap(
        lambda s: st.tuples(
            arrays(float, s, elements=st.sampled_from([0.0, 0.0, 0.2, 0.5, 1.0])),
            arrays(bool, s),
            st.lists(st.sampled_from([-100, 7, 8, 9]), min_size=s[0], max_size=s[0]),
            st.sampled_from([0.1, 0.3, 0.5, 1.0]),
            st.sampled_from([0.0, 0.2, 0.4]),
            st.sampled_from(["first", "smallest"]),
        )
    )
)
def test_fast_targets_equal_the_naive_ones(case):
    coverage, visible, ids, largest, smallest, overlap = case
    got = targets_of(coverage, ids, visible=visible, max_coverage=largest, min_coverage=smallest, overlap=overlap)
    assert got.tolist() == naive_targets(coverage, ids, visible, largest, smallest, overlap)


def test_rules_by_hand():
    coverage = np.array([[0.1, 0.9, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0, 0], [1.0] * 10])
    assert targets_of(coverage, [5, 6, 7]).tolist() == [5, 5, 6, 6] + [-100] * 6
    assert targets_of(coverage, [5, 6, 7], min_coverage=0.5).tolist() == [-100, 5] + [-100] * 8
    assert targets_of(coverage, [5, 6, 7], max_coverage=1.0).tolist() == [5, 5, 6, 6] + [7] * 6
    assert targets_of(coverage[[1, 0]], [6, 5], overlap="smallest").tolist()[:4] == [5, 5, 6, 6]
    assert targets_of(coverage, [-100, 6, -100]).tolist() == [-100, 6, 6, 6] + [-100] * 6
    assert targets_of(np.zeros((0, 4)), []).tolist() == [-100] * 4


def test_merged_targets_by_hand():
    labels = torch.tensor([[-100, -100, -100, 3, 4]])
    vision = torch.tensor([[9, -100, -100, -100, -100]])
    assert merge_targets(labels, vision).tolist() == [[9, -100, 3, 4, -100]]


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize(
    ("n_text", "n_vision", "expected"),
    [
        (4, 2, 0.75 * 10 / 4 + 0.25 * 6 / 2),
        (4, 0, 10 / 4),
        (0, 2, 6 / 2),
        (0, 0, 0.0),
    ],
)
def test_loss_value_and_gradient(as_tensor, n_text, n_vision, expected):
    text = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    vision = torch.tensor([2.0, 4.0], requires_grad=True)
    counts = TaskCounts(*(torch.tensor(n) if as_tensor else n for n in (n_text, n_vision)))
    masked_text, masked_vision = text * bool(n_text), vision * bool(n_vision)
    loss = joint_loss(masked_text, masked_vision, counts, 0.25)
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    text_weight = (0.75 if n_vision else 1.0) / n_text if n_text else 0.0
    vision_weight = (0.25 if n_text else 1.0) / n_vision if n_vision else 0.0
    assert torch.allclose(text.grad, torch.full((4,), text_weight))
    assert torch.allclose(vision.grad, torch.full((2,), vision_weight))


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [0.2, 0.2, 0.2]),
        ("constant", 4, [0.0, 0.2, 0.2]),
        ("linear", 0, [0.2, 0.1, 0.0]),
        ("cosine", 0, [0.2, 0.1, 0.0]),
        ("linear", 2, [0.0, 0.2 * 5 / 8, 0.0]),
    ],
)
def test_schedules_by_hand(schedule, warmup, expected):
    assert [scheduled_weight(0.2, step, 10, schedule, warmup) for step in (0, 5, 10)] == pytest.approx(expected)


def test_background_by_hand():
    coverage = [[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0]]
    visible = [[1, 1, 1, 1, 1, 1, 0, 0]] * 2
    # The second mask is too large to teach; what lies under it is no background either.
    targets = targets_of(coverage, [7, 8], visible=visible, background_id=3)
    assert targets.tolist() == [7, 3, -100, -100, -100, -100, -100, -100]
    assert targets_of([[0.0] * 3], [-100], visible=[[1, 0, 1]], background_id=3).tolist() == [3, -100, 3]


def test_the_pure_loss_refuses_what_cannot_be_right():
    logits, labels = torch.zeros(1, 4, 8), torch.full((1, 4), -100)
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        vision_modeling_loss(logits, labels, labels, vision_loss_weight=2)
    with pytest.raises(ValueError, match="logits of every position"):
        vision_modeling_loss(logits[:, -1:], labels, labels)


def test_the_pure_loss_and_its_gradient_by_hand():
    """B = 1, T = 4, vocabulary 3: text at positions 0 and 2 (labels of 1 and 3), a keyword at 1, nothing at 3."""
    logits = torch.zeros(1, 4, 3, dtype=torch.float64, requires_grad=True)
    labels, vision = torch.tensor([[-100, 1, 0, 2]]), torch.tensor([[-100, 2, -100, -100]])
    # Position 1 would have to predict both the keyword and label 0 of position 2: the keyword has it.
    loss = vision_modeling_loss(logits, labels, vision, vision_loss_weight=0.25)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3))
    third = 1 / 3
    expected = [
        [0.75 / 2 * g for g in (third, third - 1, third)],
        [0.25 * g for g in (third, third, third - 1)],
        [0.75 / 2 * g for g in (third, third, third - 1)],
        [0.0, 0.0, 0.0],
    ]
    assert torch.allclose(logits.grad[0], torch.tensor(expected, dtype=torch.float64))
    nothing = torch.full((1, 4), -100)
    empty = vision_modeling_loss(logits, nothing, nothing)
    assert empty.item() == 0
    empty.backward()
    halves = TaskCounts(4, 2)
    assert vision_modeling_loss(logits, labels, vision, vision_loss_weight=0.25, counts=halves).item() == pytest.approx(
        math.log(3) / 2
    )
    assert vision_modeling_loss(logits.bfloat16(), labels, vision).dtype == torch.float32


def test_zero_weight_by_schedule_is_zero_without_text():
    """Every answer is cut off, and λ is still at 0: nothing is learnt in that step."""
    text, vision = vision_loss_weights(TaskCounts(0, 5), 0.0)
    assert (float(text), float(vision)) == (1.0, 0.0)
    text, vision = vision_loss_weights(TaskCounts(0, 5), 0.1)
    assert (float(text), float(vision)) == (0.0, 1.0)
