import copy
import inspect
import json
import pickle

import pytest
import torch
import transformers
from safetensors import safe_open
from transformers import (
    AutoModelForImageTextToText,
    LlavaForConditionalGeneration,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)

from fivl_hf import FiVLLlavaForConditionalGeneration, FiVLTrainer
from fivl_hf.chat import as_blocks, encode


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


def test_positions_are_llavas(fivl_model, model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    ids, pixels = batch["input_ids"][:1, :40], batch["pixel_values"][:1]
    assert torch.equal(fivl_model(ids, pixels).logits, model(ids, pixels).logits)


def prompts(processor, dataset, count, **padding):
    """Questions of scenes, of different lengths, padded on the left."""
    conversations = [as_blocks(dataset[i]["messages"][: 1 + 2 * (i % 2)], 1) for i in range(count)]
    images = [dataset[i]["images"] for i in range(count)]
    return encode(processor, conversations, images, prompt=True, padding=True, padding_side="left").inputs


def encoded_images(model):
    """How many images go through a model's vision tower from now on."""
    counted = []
    model.model.vision_tower.register_forward_pre_hook(
        lambda _module, args, kwargs: counted.append(len((args or tuple(kwargs.values()))[0])), with_kwargs=True
    )
    return counted


@pytest.mark.parametrize("options", [{}, {"num_beams": 4}, {"use_cache": False}, {"prefill_chunk_size": 7}], ids=str)
def test_it_generates_as_llava_does(fivl_model, model, processor, dataset, options):
    """Images are encoded once, whatever the number of beams and tokens."""
    inputs = prompts(processor, dataset, 2)
    counts = [encoded_images(each) for each in (fivl_model, model)]
    answers = [
        each.generate(**inputs, max_new_tokens=5, do_sample=False, output_scores=True, return_dict_in_generate=True,
                      **options)
        for each in (fivl_model, model)
    ]  # fmt: skip
    assert torch.equal(answers[0].sequences, answers[1].sequences)
    assert all(torch.equal(*scores) for scores in zip(answers[0].scores, answers[1].scores, strict=True))
    assert counts[0] == counts[1]
    assert sum(counts[0]) == 2


def test_missing_weights_are_initialised_as_llavas(processor, model, tmp_path):
    """A fresh model, and a checkpoint that lacks its vision tower."""
    config = copy.deepcopy(model.config)
    config.vision_config.initializer_factor = 3.0
    classes = (FiVLLlavaForConditionalGeneration, LlavaForConditionalGeneration)
    fresh = []
    for kind in classes:
        set_seed(0)
        fresh.append(kind(copy.deepcopy(config)).state_dict())
    kept = {name: weight for name, weight in model.state_dict().items() if "vision_tower" not in name}
    model.config = config
    model.save_pretrained(tmp_path, state_dict=kept)
    loaded = []
    for kind in classes:
        set_seed(1)
        loaded.append(kind.from_pretrained(tmp_path).state_dict())
    for ours, theirs in (fresh, loaded):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_its_forward_is_llavas_and_more(fivl_model, model):
    ours, theirs = (list(inspect.signature(each.forward).parameters) for each in (fivl_model, model))
    more = ["vision_labels", "vision_weights", "num_items_in_batch"]
    assert ours == [*theirs[:-1], *more, "kwargs"]


def test_a_tuple_where_it_is_asked_for(fivl_model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    outputs = fivl_model(**batch)
    plain = fivl_model(**batch, return_dict=False)
    assert isinstance(plain, tuple)
    assert torch.equal(plain[0], outputs.loss)
    assert torch.equal(plain[1], outputs.logits)


def test_embeddings_in_place_of_ids(fivl_model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    expected = fivl_model(**batch)
    ids = batch.pop("input_ids")
    embedded = fivl_model(**batch, inputs_embeds=fivl_model.get_input_embeddings()(ids))
    assert torch.allclose(embedded.loss, expected.loss)


def test_resized_embeddings(fivl_model, trainer, tmp_path):
    batch = next(iter(trainer.get_train_dataloader()))
    size = fivl_model.get_input_embeddings().num_embeddings
    fivl_model.resize_token_embeddings(size + 3)
    assert fivl_model(**batch).logits.shape[-1] == size + 3
    fivl_model.save_pretrained(tmp_path)
    back = FiVLLlavaForConditionalGeneration.from_pretrained(tmp_path)
    assert back.get_output_embeddings().weight.shape[0] == size + 3
    assert torch.allclose(back(**batch).loss, fivl_model(**batch).loss, atol=1e-6)


def test_sdpa_equals_eager(fivl_model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    losses = []
    for implementation in ("sdpa", "eager"):
        fivl_model.set_attn_implementation(implementation)
        losses.append(fivl_model(**batch).loss)
    assert torch.allclose(*losses, rtol=1e-5)


@pytest.mark.slow
def test_compiled(fivl_model, trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    expected = fivl_model(**batch).loss
    compiled = torch.compile(fivl_model, backend="aot_eager")
    assert torch.allclose(compiled(**batch).loss, expected, rtol=1e-5)
    torch._dynamo.reset()


def test_pickled_and_copied(fivl_model):
    for again in (pickle.loads(pickle.dumps(fivl_model)), copy.deepcopy(fivl_model)):
        assert type(again) is FiVLLlavaForConditionalGeneration


def test_a_pipeline_takes_it_without_a_word(fivl_model, processor, dataset, caplog, monkeypatch):
    monkeypatch.setattr(transformers.utils.logging.get_logger("transformers"), "propagate", True)
    asks = pipeline("image-text-to-text", model=fivl_model, processor=processor)
    messages = [{"role": "user", "content": [{"type": "image", "image": dataset[0]["images"][0]},
                {"type": "text", "text": "What color is the ring?"}]}]  # fmt: skip
    answer = asks(text=messages, max_new_tokens=3, return_full_text=False)
    assert isinstance(answer[0]["generated_text"], str)
    assert "is not supported" not in caplog.text


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
