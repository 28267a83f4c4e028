"""What the paper leaves open: schedules of λ, weighted expressions, background as a token of its own."""

import copy
import math

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from training_steps import assert_same, first_batch, loss_and_gradients

from fivl_hf import FiVLTrainer, vision_modeling_loss
from fivl_hf.schema import FEATURES
from fivl_hf.training.collator import FiVLCollator
from fivl_hf.training.config import VisionModelingOptions
from fivl_hf.training.targets import (
    IGNORE,
    TaskCounts,
    patch_owners,
    scheduled_weight,
    values_of_owners,
    vision_loss_weights,
)


def targets_of(coverage, ids, background_id=IGNORE, **rules):
    """The token that each visual token is to predict, as the collator puts the two steps together."""
    ids = np.asarray(ids, dtype=np.int64)
    return values_of_owners(patch_owners(coverage, ids != IGNORE, **rules), ids, background_id, IGNORE)


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


def test_the_trainer_follows_the_schedule(model, processor, dataset, config):
    args = config(max_steps=4, vision_loss_weight=0.4, vision_loss_schedule="linear", vision_loss_warmup_steps=2)
    trainer = FiVLTrainer(model, args, train_dataset=dataset, processing_class=processor)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "language_loss" in entry]
    for entry, weight in zip(logs, (0.0, 0.2, 0.4, 0.2), strict=True):
        expected = (1 - weight) * entry["language_loss"] + weight * entry["vision_loss"]
        assert entry["loss"] == pytest.approx(expected, rel=1e-3)
        assert entry["vision_loss_weight"] == pytest.approx(weight)


def scored(rows):
    """Every other expression with a detector's score, the others without."""
    rows = copy.deepcopy(rows[:4])
    for row in rows:
        for k, expression in enumerate(row["key_expressions"]):
            expression["score"] = 0.3 if k % 2 else None
    return Dataset.from_list(rows, features=FEATURES)


def test_scores_weigh_the_patches(model, processor, rows, config):
    args = config(vision_loss_weight=0.3, vision_expression_weight="score")
    trainer = FiVLTrainer(copy.deepcopy(model), args, train_dataset=scored(rows), processing_class=processor)
    batch = first_batch(trainer)
    assert batch["vision_weights"].unique().tolist() == pytest.approx([0.0, 0.3, 1.0])
    assert torch.equal(batch["vision_weights"] > 0, batch["vision_labels"] != -100)
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "vision_labels", "vision_weights")}
    log_probs = model(**inputs).logits.float().log_softmax(-1)
    text = torch.nn.functional.nll_loss(log_probs[:, :-1].transpose(1, 2), batch["labels"][:, 1:])
    wanted = batch["vision_labels"] != -100
    weights = batch["vision_weights"][wanted]
    chosen = log_probs[wanted].gather(1, batch["vision_labels"][wanted][:, None])[:, 0]
    expected = 0.7 * text - 0.3 * (weights * chosen).sum() / weights.sum()
    assert loss_and_gradients(trainer)[0] == pytest.approx(expected.item(), rel=1e-5)
    logits = model(**inputs).logits
    options = {"vision_loss_weight": 0.3, "vision_weights": batch["vision_weights"]}
    loss = vision_modeling_loss(logits, batch["labels"], batch["vision_labels"], **options)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_weighted_accumulation_equals_one_batch(model, processor, rows, config):
    data = scored(rows)
    whole, pieces = (
        FiVLTrainer(
            copy.deepcopy(model),
            config(vision_expression_weight="score", **sizes),
            train_dataset=data,
            processing_class=processor,
        )
        for sizes in ({}, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4})
    )
    assert_same(loss_and_gradients(whole), loss_and_gradients(pieces), rtol=1e-5, atol=1e-7)


def test_background_by_hand():
    coverage = [[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0]]
    visible = [[1, 1, 1, 1, 1, 1, 0, 0]] * 2
    # The second mask is too large to teach; what lies under it is no background either.
    targets = targets_of(coverage, [7, 8], visible=visible, background_id=3)
    assert targets.tolist() == [7, 3, -100, -100, -100, -100, -100, -100]
    assert targets_of([[0.0] * 3], [-100], visible=[[1, 0, 1]], background_id=3).tolist() == [3, -100, 3]


def test_background_is_a_token_where_there_is_evidence(processor, dataset):
    options = VisionModelingOptions(background_token="<unk>")
    token = processor.tokenizer.convert_tokens_to_ids("<image>")
    collator = FiVLCollator(processor=processor, image_token_id=token, answers_only=True, options=options)
    plain = {**dataset[0], "key_expressions": [], "masks": []}
    batch = collator([dict(dataset[0]), plain])
    labels = batch["vision_labels"][batch["input_ids"] == token].view(2, -1)
    assert (labels[0] != -100).all()
    assert (labels[0] == processor.tokenizer.unk_token_id).any()
    assert (labels[0] != processor.tokenizer.unk_token_id).any()
    assert (labels[1] == -100).all()


def test_wrong_options_are_named(model, processor, dataset, config):
    with pytest.raises(ValueError, match=r"'<nothing>' is not a token of the tokenizer"):
        FiVLTrainer(
            model, config(vision_background_token="<nothing>"), train_dataset=dataset, processing_class=processor
        )
    for name, value in (("vision_loss_schedule", "step"), ("vision_expression_weight", "area")):
        with pytest.raises(ValueError, match=f"{name} must be one of .*got '{value}'"):
            config(**{name: value})


def test_a_collator_of_ones_own_is_counted_as_it_weighs(model, processor, rows, config, caplog, monkeypatch):
    """Its options hold, with a warning, and the loss is the weighted mean of what it gives."""
    monkeypatch.setattr(transformers.utils.logging.get_logger("fivl_hf.training.trainer"), "propagate", True)
    for own, other in (("score", "equal"), ("equal", "score")):
        collator = FiVLCollator(
            processor=processor,
            model_config=model.config,
            answers_only=True,
            options=VisionModelingOptions(expression_weight=own),
        )
        trainer = FiVLTrainer(
            copy.deepcopy(model),
            config(max_steps=1, vision_loss_weight=0.5, vision_expression_weight=other),
            data_collator=collator,
            train_dataset=scored(rows),
            processing_class=processor,
        )
        assert "those of the collator hold" in caplog.text
        trainer.train()
        log = trainer.state.log_history[0]
        assert log["loss"] == pytest.approx(0.5 * log["language_loss"] + 0.5 * log["vision_loss"], rel=1e-3)


def test_warm_up_may_be_a_share_of_all_steps(config):
    assert [config(vision_loss_warmup_steps=w).vision_warmup(50) for w in (0, 0.03, 0.5, 7)] == [0, 2, 25, 7]
    for wrong in (1.5, "3", -2):
        with pytest.raises(ValueError, match="vision_loss_warmup_steps must be a number of steps, or a share"):
            config(vision_loss_warmup_steps=wrong)


def test_scores_of_zero_are_no_perfect_loss(model, processor, rows, config):
    rows = copy.deepcopy(rows[:4])
    for row in rows:
        for expression in row["key_expressions"]:
            expression["score"] = 0.0
    data = Dataset.from_list(rows, features=FEATURES)
    args = config(max_steps=1, vision_expression_weight="score")
    trainer = FiVLTrainer(model, args, train_dataset=data, processing_class=processor)
    trainer.train()
    assert "vision_loss" not in trainer.state.log_history[0]
    assert trainer.state.log_history[0]["loss"] == pytest.approx(
        trainer.state.log_history[0]["language_loss"], rel=1e-4
    )


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
