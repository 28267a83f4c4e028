"""What the paper leaves open: schedules of λ, weighted expressions, background as a token of its own."""

import copy

import pytest
import torch
from datasets import Dataset
from training_steps import assert_same, first_batch, loss_and_gradients

from fivl_hf import FiVLTrainer, vision_modeling_loss
from fivl_hf.schema import FEATURES
from fivl_hf.training.collator import FiVLCollator
from fivl_hf.training.config import VisionModelingOptions
from fivl_hf.training.targets import scheduled_weight, vision_targets


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
    targets = vision_targets(coverage, [7, 8], visible=visible, background_id=3)
    assert targets.tolist() == [7, 3, -100, -100, -100, -100, -100, -100]
    assert vision_targets([[0.0] * 3], [-100], visible=[[1, 0, 1]], background_id=3).tolist() == [3, -100, 3]


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
    with pytest.raises(ValueError, match=r"'<nothing>' is no token of the tokenizer"):
        FiVLTrainer(
            model, config(vision_background_token="<nothing>"), train_dataset=dataset, processing_class=processor
        )
    for name, value in (("vision_loss_schedule", "step"), ("vision_expression_weight", "area")):
        with pytest.raises(ValueError, match=f"{name} must be one of .*got '{value}'"):
            config(**{name: value})
    with pytest.raises(ValueError, match="vision_loss_warmup_steps must not be negative"):
        config(vision_loss_warmup_steps=-1)
