import copy

import pytest
import torch
import transformers
from datasets import Dataset
from training_steps import assert_same, first_batch, loss_and_gradients

from fivl_hf import FiVLTrainer, vision_modeling_loss
from fivl_hf.schema import FEATURES
from fivl_hf.training.collator import FiVLCollator
from fivl_hf.training.config import VisionModelingOptions


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
