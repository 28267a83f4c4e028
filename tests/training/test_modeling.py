import copy
import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration, Trainer, TrainingArguments

from fivl_hf import FiVLLlavaForConditionalGeneration, FiVLTrainer


@pytest.fixture
def fivl_model(model):
    mine = FiVLLlavaForConditionalGeneration(copy.deepcopy(model.config)).eval()
    mine.load_state_dict(model.state_dict())
    return mine


@pytest.fixture
def trainer(model, processor, dataset, config):
    return FiVLTrainer(
        copy.deepcopy(model), config(vision_loss_weight=0.1), train_dataset=dataset, processing_class=processor
    )


def test_model_and_trainer_agree_in_loss_and_gradients(fivl_model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    loss = fivl_model(**batch).loss
    loss.backward()
    theirs = trainer.compute_loss(trainer.model.eval(), dict(batch))
    theirs.backward()
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    for (name, a), b in zip(fivl_model.named_parameters(), trainer.model.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_lambda_comes_from_the_config(fivl_model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    losses = []
    for weight in (0.0, 1.0):
        fivl_model.config.vision_loss_weight = weight
        losses.append(fivl_model(**batch).loss.item())
    fivl_model.config.vision_loss_weight = 0.25
    assert fivl_model(**batch).loss.item() == pytest.approx(0.75 * losses[0] + 0.25 * losses[1], rel=1e-5)


def test_without_vision_labels_it_is_llava(fivl_model, model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    del batch["vision_labels"]
    ours, theirs = fivl_model(**batch), model(**batch)
    assert torch.equal(ours.loss, theirs.loss)
    assert torch.equal(ours.logits, theirs.logits)
    assert fivl_model(input_ids=batch["input_ids"], pixel_values=batch["pixel_values"]).loss is None


def test_vision_labels_alone(fivl_model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    del batch["labels"]
    outputs = fivl_model(**batch)
    expected = torch.nn.functional.cross_entropy(outputs.logits.transpose(1, 2), batch["vision_labels"])
    assert outputs.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_micro_batches_add_up_to_weighted_means(fivl_model, trainer):
    """With Trainer's text count, each micro-batch counts by its share of the text."""
    batch = next(iter(trainer.get_train_dataloader()))
    n = int((batch["labels"][:, 1:] != -100).sum())
    whole = fivl_model(**batch).loss
    twice = fivl_model(**batch, num_items_in_batch=torch.tensor(2 * n)).loss
    assert (2 * twice).item() == pytest.approx(whole.item(), rel=1e-5)


def test_a_step_without_text_is_the_vision_loss(fivl_model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    batch["labels"] = torch.full_like(batch["labels"], -100)
    outputs = fivl_model(**batch, num_items_in_batch=torch.tensor(0))
    expected = torch.nn.functional.cross_entropy(outputs.logits.transpose(1, 2), batch["vision_labels"])
    assert outputs.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert fivl_model(**batch, num_items_in_batch=torch.tensor(9)).loss.item() == 0
    with pytest.raises(ValueError, match="logits_to_keep"):
        fivl_model(**batch, logits_to_keep=1)


def test_plain_trainer_trains_it(fivl_model, trainer, dataset, tmp_path):
    plain = Trainer(
        fivl_model,
        TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=4,
            report_to="none",
            use_cpu=True,
            remove_unused_columns=False,
            learning_rate=1e-3,
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        ),
        data_collator=trainer.data_collator,
        train_dataset=dataset,
    )
    plain.train()
    losses = [entry["loss"] for entry in plain.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]


def test_it_generates_and_takes_positions_as_llava_does(fivl_model, model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    ids, pixels = batch["input_ids"][:1, :40], batch["pixel_values"][:1]
    options = {"max_new_tokens": 4, "do_sample": False}
    generated = fivl_model.generate(input_ids=ids, pixel_values=pixels, **options)
    assert torch.equal(generated, model.generate(input_ids=ids, pixel_values=pixels, **options))
    assert torch.equal(fivl_model(ids, pixels).logits, model(ids, pixels).logits)


def test_pushing_while_saving_is_refused(fivl_model, tmp_path):
    with pytest.raises(ValueError, match="model.push_to_hub"):
        fivl_model.save_pretrained(tmp_path, push_to_hub=True)


def weight_names(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


def test_checkpoints_go_to_plain_llava_and_back(fivl_model, model, trainer, tmp_path):
    batch = next(iter(trainer.get_train_dataloader()))
    inputs = {k: v for k, v in batch.items() if "labels" not in k}
    fivl_model.config.vision_loss_weight = 0.3
    fivl_model.save_pretrained(tmp_path / "fivl")
    written = json.loads((tmp_path / "fivl" / "config.json").read_text())
    assert written["architectures"] == ["LlavaForConditionalGeneration"]
    assert written["model_type"] == "llava"
    model.save_pretrained(tmp_path / "plain")
    assert weight_names(tmp_path / "fivl") == weight_names(tmp_path / "plain")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "fivl")
    assert type(plain) is LlavaForConditionalGeneration
    assert torch.allclose(plain(**inputs).logits, fivl_model(**inputs).logits, atol=1e-6)
    back = FiVLLlavaForConditionalGeneration.from_pretrained(tmp_path / "plain", vision_loss_weight=0.2)
    assert back.config.vision_loss_weight == 0.2
    assert FiVLLlavaForConditionalGeneration.from_pretrained(tmp_path / "fivl").config.vision_loss_weight == 0.3
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        FiVLLlavaForConditionalGeneration.from_pretrained(tmp_path / "plain", vision_loss_weight=2)
    assert torch.allclose(back(**inputs).logits, model(**inputs).logits, atol=1e-6)
