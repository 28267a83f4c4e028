import copy

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset, DatasetDict
from families import perceiver
from training_steps import (
    MARKED,
    assert_same,
    checkpointing,
    first_batch,
    loss_and_gradients,
    sft_config,
    trained_losses,
)
from transformers import LlavaProcessor
from trl import SFTTrainer

from fivl_hf import FiVLConfig, FiVLTrainer
from fivl_hf.geometry import UnknownProcessorError
from fivl_hf.training.collator import FiVLCollator


@pytest.mark.parametrize("answers", [True, False])
def test_lambda_zero_is_sft_exactly(model, processor, dataset, config, answers):
    """With generation markers TRL masks the answers itself; without them both take every token."""
    processor = copy.deepcopy(processor)
    processor.chat_template = MARKED
    args = config(vision_loss_weight=0.0, assistant_only_loss=answers)
    ours = FiVLTrainer(copy.deepcopy(model), args, train_dataset=dataset, processing_class=processor)
    sft_args = sft_config(config(vision_loss_weight=0.0, assistant_only_loss=answers))
    theirs = SFTTrainer(copy.deepcopy(model), sft_args, train_dataset=dataset, processing_class=processor)
    a, b = first_batch(ours), first_batch(theirs)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert_same(loss_and_gradients(ours), loss_and_gradients(theirs))


def test_answer_masks_do_not_need_markers(model, processor, dataset, config):
    marked = copy.deepcopy(processor)
    marked.chat_template = MARKED
    labels = [
        first_batch(FiVLTrainer(model, config(), train_dataset=dataset, processing_class=p))["labels"]
        for p in (processor, marked)
    ]
    assert torch.equal(*labels)


def naive_loss(model, batch, weight):
    """Two cross-entropies over full logits, as the paper writes them."""
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "vision_labels")}
    logits = model(**inputs).logits.float()
    text = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:])
    vision = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["vision_labels"])
    return (1 - weight) * text + weight * vision


@pytest.mark.parametrize("weight", [0.1, 0.7, 1.0])
def test_fused_loss_equals_two_cross_entropies(model, processor, dataset, config, weight):
    trainer = FiVLTrainer(
        copy.deepcopy(model), config(vision_loss_weight=weight), train_dataset=dataset, processing_class=processor
    )
    loss, gradients = loss_and_gradients(trainer)
    reference = copy.deepcopy(model).train()
    expected = naive_loss(reference, first_batch(trainer), weight)
    expected.backward()
    expected_gradients = {n: p.grad for n, p in reference.named_parameters() if p.grad is not None}
    assert_same((loss, gradients), (expected.item(), expected_gradients), rtol=1e-4, atol=1e-6)


def uneven(rows):
    """Rows whose numbers of text and vision targets differ widely, one of them text alone."""
    rows = copy.deepcopy(rows[:4])
    rows[0]["messages"] = rows[0]["messages"][:2]
    rows[0]["key_expressions"], rows[0]["masks"] = rows[0]["key_expressions"][:1], rows[0]["masks"][:1]
    rows[1]["key_expressions"], rows[1]["masks"] = [], []
    rows[3]["images"], rows[3]["key_expressions"], rows[3]["masks"] = [], [], []
    return rows


def test_batch_equals_accumulation(model, processor, rows, config):
    from fivl_hf.schema import FEATURES

    data = Dataset.from_list(uneven(rows), features=FEATURES)
    whole = FiVLTrainer(copy.deepcopy(model), config(), train_dataset=data, processing_class=processor)
    pieces = FiVLTrainer(
        copy.deepcopy(model),
        config(per_device_train_batch_size=1, gradient_accumulation_steps=4),
        train_dataset=data,
        processing_class=processor,
    )
    assert_same(loss_and_gradients(whole), loss_and_gradients(pieces), rtol=1e-5, atol=1e-7)


def test_checkpointing_changes_nothing(model, processor, dataset, config):
    results = [
        loss_and_gradients(
            FiVLTrainer(
                copy.deepcopy(model),
                config(activation_checkpointing=on),
                train_dataset=dataset,
                processing_class=processor,
            )
        )
        for on in (False, True)
    ]
    assert_same(*results, rtol=1e-5, atol=1e-7)


def test_a_step_without_any_vision_target_is_plain_text(model, processor, rows, config):
    from fivl_hf.schema import FEATURES

    bare = [{**row, "key_expressions": [], "masks": []} for row in rows]
    data = Dataset.from_list(bare, features=FEATURES)
    ours, plain = (
        FiVLTrainer(copy.deepcopy(model), config(vision_loss_weight=w), train_dataset=data, processing_class=processor)
        for w in (0.1, 0.0)
    )
    assert_same(loss_and_gradients(ours), loss_and_gradients(plain), rtol=1e-5, atol=1e-7)


def test_training_and_evaluation_log_both_tasks(model, processor, dataset, config):
    trainer = FiVLTrainer(
        model,
        config(eval_strategy="steps", eval_steps=1),
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=processor,
    )
    trainer.train()
    train_log = next(entry for entry in trainer.state.log_history if "loss" in entry)
    names = {"language_loss", "vision_loss", "vision_token_accuracy", "labelled_patches", "mean_token_accuracy"}
    assert names <= train_log.keys()
    assert train_log["loss"] == pytest.approx(
        0.9 * train_log["language_loss"] + 0.1 * train_log["vision_loss"], rel=1e-3
    )
    metrics = trainer.evaluate()
    assert {f"eval_{name}" for name in names} <= metrics.keys()
    batch = trainer.data_collator([dict(dataset[i]) for i in range(len(dataset))])
    share = (batch["vision_labels"] != -100).sum() / (batch["input_ids"] == trainer._image_token_id).sum()
    assert metrics["eval_labelled_patches"] == pytest.approx(share.item())


def test_vision_token_accuracy_counts_what_is_right(model, processor, dataset, config):
    trainer = FiVLTrainer(model, config(), train_dataset=dataset, eval_dataset=dataset, processing_class=processor)
    metrics = trainer.evaluate()
    batch = trainer.data_collator([dict(dataset[i]) for i in range(len(dataset))])
    inputs = {k: v for k, v in batch.items() if "labels" not in k}
    with torch.no_grad():
        predicted = model.eval()(**inputs).logits.argmax(-1)
    wanted = batch["vision_labels"] != -100
    expected = (predicted == batch["vision_labels"])[wanted].float().mean().item()
    assert metrics["eval_vision_token_accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize("measured", [False, True])
def test_a_baseline_can_be_compared(model, processor, dataset, config, measured):
    """λ = 0 logs the same language loss as λ > 0, and the vision metrics where they are asked for; its own stay."""

    def run(weight, **options):
        args = config(vision_loss_weight=weight, assistant_only_loss=False, **options)
        trainer = FiVLTrainer(
            copy.deepcopy(model), args, train_dataset=dataset, eval_dataset=dataset, processing_class=processor
        )
        metrics = trainer.evaluate()
        trainer.train()
        return metrics, trainer.state.log_history

    baseline, log = run(0.0, vision_eval_metrics=measured)
    fivl, _ = run(0.5)
    assert baseline["eval_language_loss"] == pytest.approx(baseline["eval_loss"], rel=1e-5)
    assert fivl["eval_language_loss"] == pytest.approx(baseline["eval_language_loss"], rel=0.02)
    for name in ("eval_vision_loss", "eval_vision_token_accuracy", "eval_labelled_patches"):
        assert (name in baseline) == measured
        if measured:
            assert baseline[name] == pytest.approx(fivl[name], rel=1e-5)
    trained = [entry for entry in log if "loss" in entry]
    assert all(entry["language_loss"] == pytest.approx(entry["loss"], rel=1e-3) for entry in trained)
    assert not any("vision_loss" in entry for entry in trained)
    theirs = SFTTrainer(
        copy.deepcopy(model),
        sft_config(config(assistant_only_loss=False)),
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=processor,
    )
    assert theirs.evaluate()["eval_loss"] == baseline["eval_loss"]
    theirs.train()
    for entry, expected in zip(trained, [e for e in theirs.state.log_history if "loss" in e], strict=True):
        names = expected.keys() - {"eval_runtime"}
        assert {name: entry[name] for name in names} == {name: expected[name] for name in names}


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_a_subclass_with_a_loss_of_its_own(model, processor, dataset, config, weight):
    """What TRL tells people to write instead of compute_loss_func."""

    class Own(FiVLTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            inputs = {k: v for k, v in inputs.items() if not k.startswith("vision_")}
            logits = model(**inputs).logits[:, :-1].transpose(1, 2)
            total = torch.nn.functional.cross_entropy(logits, labels[:, 1:], reduction="sum")
            return total / num_items_in_batch

    trainer = Own(model, config(vision_loss_weight=weight), train_dataset=dataset, processing_class=processor)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] > 0


def test_datasets_in_any_format(model, processor, dataset, config):
    """A transform on the fly, arrays and tensors: all give the batch of the plain dataset."""
    expected = first_batch(FiVLTrainer(model, config(), train_dataset=dataset, processing_class=processor))
    seen = []

    def augmented(batch):
        seen.extend(type(image).__name__ for images in batch["images"] for image in images)
        return batch

    for data in (
        dataset.with_transform(augmented),
        dataset.with_format("torch"),
        dataset.with_format("numpy"),
        dataset.with_format(None, columns=["images", "messages", "key_expressions", "masks"]),
    ):
        batch = first_batch(FiVLTrainer(model, config(), train_dataset=data, processing_class=processor))
        assert all(torch.equal(batch[key], expected[key]) for key in expected)
    assert set(seen) == {"PngImageFile"}
    stream = dataset.to_iterable_dataset().with_format("torch")
    FiVLTrainer(model, config(), train_dataset=stream, processing_class=processor).train()


def test_plain_rows_with_a_transform_are_sft(model, processor, dataset, config):
    plain = dataset.select_columns(["images", "messages"]).with_transform(lambda batch: batch)
    args = config(vision_loss_weight=0.0, assistant_only_loss=False)
    ours = FiVLTrainer(copy.deepcopy(model), args, train_dataset=plain, processing_class=processor)
    theirs = SFTTrainer(copy.deepcopy(model), sft_config(args), train_dataset=plain, processing_class=processor)
    assert_same(loss_and_gradients(ours), loss_and_gradients(theirs))


def test_rows_of_plain_text_under_another_name(model, processor, rows, config):
    from fivl_hf.schema import FEATURES

    columns = {key: FEATURES[key] for key in ("id", "images", "key_expressions", "masks")}
    captions = [{**{key: row[key] for key in columns}, "caption": "<image> It is a ring."} for row in rows]
    from datasets import Features, Value

    data = Dataset.from_list(captions, features=Features({**columns, "caption": Value("string")}))
    args = config(dataset_text_field="caption")
    trainer = FiVLTrainer(model, args, train_dataset=data, processing_class=processor)
    assert (first_batch(trainer)["vision_labels"] != -100).any()
    trainer.train()


def test_two_names_swapped_in_an_sft_script(model, processor, dataset, tmp_path):
    """Only names change; columns, collator and answers are found without being told."""
    trainer = FiVLTrainer(
        model=model,
        args=FiVLConfig(output_dir=str(tmp_path), max_steps=1, report_to="none", bf16=False, use_cpu=True),
        train_dataset=dataset,
        processing_class=processor,
    )
    assert isinstance(trainer.data_collator, FiVLCollator)
    assert trainer.train().training_loss > 0
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert "2412.14672" in card
    assert "fivl" in card


def test_sft_config_prompt_completion_and_own_collator_still_work(model, processor, dataset, config):
    pairs = [
        {"images": row["images"], "prompt": row["messages"][:1], "completion": row["messages"][1:2]}
        for row in (dataset[i] for i in range(4))
    ]
    trainer = FiVLTrainer(
        model, sft_config(config()), train_dataset=Dataset.from_list(pairs), processing_class=processor
    )
    batch = first_batch(trainer)
    assert (batch["labels"] == -100).any()
    assert (batch["vision_labels"] == -100).all()
    trainer.train()
    mine = FiVLTrainer(
        model,
        config(),
        data_collator=trainer.data_collator,
        train_dataset=dataset,
        processing_class=processor,
    )
    assert mine.data_collator is trainer.data_collator


def test_an_own_collator_gets_decoded_images(model, processor, dataset, config):
    seen = []

    def own(examples):
        seen.extend(type(image) for example in examples for image in example["images"])
        raise KeyboardInterrupt

    trainer = FiVLTrainer(model, config(), data_collator=own, train_dataset=dataset, processing_class=processor)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert all(issubclass(kind, PIL.Image.Image) for kind in seen)
    assert seen


def test_streaming(model, processor, dataset, config):
    trainer = FiVLTrainer(model, config(), train_dataset=dataset.to_iterable_dataset(), processing_class=processor)
    trainer.train()
    assert trainer.state.global_step == 2
    assert any("vision_loss" in entry for entry in trainer.state.log_history)


def test_resume_equals_no_interruption(processor, dataset, config, tmp_path):
    from fivl_hf.scenes.model import scene_model

    def run(folder, steps, resume=None):
        fresh = scene_model(processor, 0, hidden_size=32, text_layers=2, vision_layers=1)
        args = config(**checkpointing(tmp_path / folder, steps))
        trainer = FiVLTrainer(fresh, args, train_dataset=dataset, processing_class=processor)
        return trained_losses(trainer, resume)

    straight = run("straight", 8)
    run("halves", 4)
    resumed = run("halves", 8, str(tmp_path / "halves" / "checkpoint-4"))
    assert np.allclose(resumed, straight, atol=1e-5)


def test_the_best_model_is_loaded_at_the_end(model, processor, dataset, config):
    """A learning rate that diverges: the best checkpoint is the first."""
    args = config(
        max_steps=3,
        learning_rate=0.5,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
    )
    trainer = FiVLTrainer(model, args, train_dataset=dataset, eval_dataset=dataset, processing_class=processor)
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-5)
    assert losses[-1] > min(losses)


def test_lora_with_a_frozen_head(model, processor, dataset, config):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = FiVLTrainer(model, config(), train_dataset=dataset, processing_class=processor, peft_config=lora)
    before = {n: p.clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    assert before
    assert any(not torch.equal(p, before[n]) for n, p in trainer.model.named_parameters() if n in before)


def test_the_callers_config_is_left_alone(model, processor, dataset, config):
    args = config()
    pairs = [{"images": r["images"], "prompt": r["messages"][:1], "completion": r["messages"][1:2]} for r in dataset]
    FiVLTrainer(model, args, train_dataset=Dataset.from_list(pairs), processing_class=processor)
    assert args.assistant_only_loss is True
    trainer = FiVLTrainer(model, args, train_dataset=dataset, processing_class=processor)
    assert (first_batch(trainer)["labels"] == -100).float().mean() > 0.5


def test_random_nouns_go_with_the_epoch_and_evaluation_stays_put(model, processor, dataset, config):
    seen = []
    args = config(max_steps=-1, num_train_epochs=3, eval_strategy="epoch", per_device_train_batch_size=12)
    trainer = FiVLTrainer(model, args, train_dataset=dataset, eval_dataset=dataset, processing_class=processor)

    class Watched(FiVLCollator):
        def torch_call(self, examples):
            seen.append((len(examples), self.epoch))
            return super().torch_call(examples)

    trainer.data_collator.__class__ = Watched
    trainer.train()
    assert {epoch for size, epoch in seen if size == 4} == {0}
    assert [epoch for size, epoch in seen if size == 12] == [0, 0, 1, 1, 2, 2]


def test_missing_columns_and_empty_datasets(model, processor, dataset, config):
    for data, message in (
        (dataset.remove_columns("images"), "no column 'images'"),
        (dataset.remove_columns("messages"), "no column 'messages'"),
        (dataset.select([]), "empty"),
        (DatasetDict(train=dataset, test=dataset), r"splits 'train', 'test': pass one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            FiVLTrainer(model, config(), train_dataset=data, processing_class=processor)


def test_bad_rows_are_named_in_training(model, processor, rows, config):
    from fivl_hf.schema import FEATURES

    def broken(**fields):
        row = copy.deepcopy(rows[0])
        row["key_expressions"][0] |= fields
        return {**row, "id": "bad-9"}

    for row, message in (
        (broken(boxes=[[0.0, 0.0, 99.0, 5.0]]), "row 'bad-9'.*inside the 40x40 image"),
        (broken(start=0, end=3), "row 'bad-9'.*span of"),
        (broken(image=7), "row 'bad-9'.*one of 1 images"),
        ({**rows[0], "id": "bad-9", "images": [{"bytes": b"no", "path": None}]}, "row 'bad-9'.*unreadable"),
    ):
        data = Dataset.from_list([row] * 4, features=FEATURES)
        trainer = FiVLTrainer(model, config(), train_dataset=data, processing_class=processor)
        with pytest.raises(ValueError, match=message):
            trainer.train()


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_lambda_outside_its_range(tmp_path, weight):
    with pytest.raises(ValueError, match=f"vision_loss_weight must be between 0 and 1, got {weight}"):
        FiVLConfig(output_dir=str(tmp_path), vision_loss_weight=weight)


@pytest.mark.parametrize(("name", "value"), [("vision_overlap", "last"), ("vision_keyword", "any")])
def test_unknown_choices(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} must be one of .*got '{value}'"):
        FiVLConfig(output_dir=str(tmp_path), **{name: value})


def test_what_the_fused_pass_cannot_do_is_refused(model, processor, dataset, config):
    with pytest.raises(ValueError, match="label smoothing"):
        FiVLTrainer(model, config(label_smoothing_factor=0.1), train_dataset=dataset, processing_class=processor)


class StrangeProcessor(LlavaProcessor):
    """A processor whose boxes nobody has registered."""


def test_an_unknown_processor_is_probed(model, processor, dataset, config):
    strange = copy.copy(processor)
    strange.__class__ = StrangeProcessor
    # A probe is off by parts of a pixel, and scenes stop at the borders of patches: slivers do not count.
    args = config(vision_min_coverage=0.1)
    known, probed = (
        first_batch(FiVLTrainer(model, args, train_dataset=dataset, processing_class=p))["vision_labels"]
        for p in (processor, strange)
    )
    assert torch.equal(known, probed)
    assert (probed != -100).any()


def test_what_has_no_boxes_is_refused_before_training(dataset, config):
    strange, model = perceiver()
    with pytest.raises(UnknownProcessorError, match="Idefics2.*sees too much of the image"):
        FiVLTrainer(model, config(), train_dataset=dataset, processing_class=strange)
    trainer = FiVLTrainer(model, config(vision_loss_weight=0), train_dataset=dataset, processing_class=strange)
    batch = first_batch(trainer)
    # Its processor expands placeholders in a way of its own: the loss is on the answers all the same.
    text = strange.tokenizer.decode(batch["labels"][batch["labels"] >= 0])
    assert "<image>" not in text
    assert "USER" not in text
    assert "It is a" in text
    trainer.train()


def test_batches_are_grouped_by_a_column_of_lengths(model, processor, dataset, config):
    """Without the column, transformers would look for input_ids, which rows with images do not have yet."""
    lengths = [number % 2 * 100 + 1 for number in range(len(dataset))]
    grouped = dataset.add_column("length", lengths)
    options = config(train_sampling_strategy="group_by_length", per_device_train_batch_size=2)
    trainer = FiVLTrainer(model, options, train_dataset=grouped, processing_class=processor)
    order = list(trainer._get_train_sampler())
    batches = [{lengths[i] for i in order[start : start + 2]} for start in range(0, len(order), 2)]
    # Sorted three batches at a time; in each three, one may hold both lengths.
    assert sum(len(batch) == 1 for batch in batches) >= 8
    first_batch(trainer)
