"""What is said before and while a training goes wrong in silence."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import transformers
from datasets import Dataset, Image, List

from fivl_hf import FiVLTrainer
from fivl_hf.masks import encode_mask
from fivl_hf.schema import FEATURES
from fivl_hf.training.checks import check_launcher, evidence_problem


@pytest.fixture
def warnings(caplog, monkeypatch):
    for name in ("trainer", "checks", "collator"):
        monkeypatch.setattr(transformers.utils.logging.get_logger(f"fivl_hf.training.{name}"), "propagate", True)
    return lambda: [record.message for record in caplog.records if record.levelname == "WARNING"]


def without_expressions(row):
    row["key_expressions"], row["masks"] = [], []


def without_nouns(row):
    for expression in row["key_expressions"]:
        expression["keywords"] = []


def with_large_masks(row):
    row["masks"] = [{"bytes": encode_mask(np.ones((40, 40), dtype=bool)), "path": None} for _ in row["masks"]]


@pytest.mark.parametrize(
    ("change", "problem", "reason"),
    [
        (without_expressions, "24 rows without key expressions", "200 rows without key expressions"),
        (without_nouns, r"48 expressions without a noun", "400 expressions without a noun that the tokenizer knows"),
        (with_large_masks, r"48 masks of more than 30% of their image", "400 masks over the limit"),
    ],
)
def test_a_training_without_vision_targets_says_so(
    model, processor, rows, config, warnings, monkeypatch, change, problem, reason
):
    """At the start from the rows, and after some steps from what was met: λ of 0.1 would be 0 in silence."""
    rows = copy.deepcopy(rows)
    for row in rows:
        change(row)
    monkeypatch.setattr("fivl_hf.training.trainer._PATIENCE", 5)
    data = Dataset.from_list(rows, features=FEATURES)
    args = config(max_steps=7, logging_steps=50, per_device_train_batch_size=4)
    trainer = FiVLTrainer(model, args, train_dataset=data, processing_class=processor)
    (first,) = [message for message in warnings() if "vision targets" in message]
    assert f"in the first 24 rows there are {problem}" in first
    trainer.train()
    (later,) = [message for message in warnings() if "No patch had a vision target in the first 5 steps" in message]
    # Six batches of four rows, of two expressions each.
    number, what = reason.split(" ", 1)
    assert f"{int(number) * 24 // 200} {what}" in later


@pytest.mark.parametrize(("steps", "logging_steps"), [(7, 1), (5, 2), (3, 10)])
def test_the_second_warning_counts_from_the_beginning(
    model, processor, rows, config, warnings, monkeypatch, dataset, steps, logging_steps
):
    """However often is logged, evaluated with targets, or ended before the patience is over."""
    bare = copy.deepcopy(rows)
    for row in bare:
        without_expressions(row)
    monkeypatch.setattr("fivl_hf.training.trainer._PATIENCE", 5)
    data = Dataset.from_list(bare, features=FEATURES)
    args = config(max_steps=steps, logging_steps=logging_steps, eval_strategy="steps", eval_steps=1)
    FiVLTrainer(
        model, args, train_dataset=data, eval_dataset=dataset.select(range(4)), processing_class=processor
    ).train()
    (later,) = [message for message in warnings() if "No patch had a vision target" in message]
    # Batches of four rows; the sixth batch is under way when five steps are done.
    batches = min(steps, 6)
    assert f"in the first {min(steps, 5)} steps" in later
    assert f"{4 * batches} rows without key expressions" in later


def test_rows_without_evidence_columns_are_told_apart_from_hidden_ones(model, processor, dataset, config, warnings):
    plain = dataset.remove_columns(["key_expressions", "masks"])
    hidden = dataset.with_format(None, columns=["images", "messages"])
    for data in (plain, hidden):
        FiVLTrainer(copy.deepcopy(model), config(), train_dataset=data, processing_class=processor)
    plain_warning, hidden_warning = (message for message in warnings() if "vision targets" in message)
    assert "the rows have no column 'key_expressions' and 'masks': without" in plain_warning
    assert "the dataset's format hides it" in hidden_warning


def test_evidence_says_nothing(model, processor, dataset, config, warnings):
    trainer = FiVLTrainer(model, config(), train_dataset=dataset, processing_class=processor)
    trainer.train()
    assert not [message for message in warnings() if "vision target" in message]
    assert evidence_problem(dataset, 0.3) is None
    assert evidence_problem(dataset, 0.0) == "in the first 24 rows there are 48 masks of more than 0% of their image"


def test_a_launcher_that_does_not_shard_says_so(warnings, monkeypatch):
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(distributed_type="DistributedType.MULTI_CPU"),
        args=SimpleNamespace(device=SimpleNamespace(type="cpu")),
    )
    check_launcher(trainer)
    assert warnings() == []
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    check_launcher(trainer)
    assert "asks for FSDP, but nothing is sharded" in warnings()[0]
    trainer.accelerator.distributed_type = "DistributedType.FSDP"
    check_launcher(trainer)
    assert len(warnings()) == 1


def test_blank_answers_are_named(model, processor, rows, config, warnings):
    rows = copy.deepcopy(rows[:4])
    for message in rows[2]["messages"][1::2]:
        message["content"] = " "
    rows[2]["key_expressions"], rows[2]["masks"] = [], []
    data = Dataset.from_list(rows, features=FEATURES)
    FiVLTrainer(model, config(max_steps=2), train_dataset=data, processing_class=processor).train()
    (told,) = [message for message in warnings() if "blank" in message]
    assert f"row '{rows[2]['id']}': all its answers are blank" in told


@pytest.mark.parametrize("images", [True, False])
def test_blank_completions_are_named(model, processor, rows, config, warnings, images):
    prompts = [
        {
            "id": f"r{number}",
            "prompt": [{"role": "user", "content": "What is it?"}],
            "completion": [{"role": "assistant", "content": "" if number == 2 else "It is a circle."}],
            **({"images": rows[0]["images"]} if images else {}),
        }
        for number in range(4)
    ]
    data = Dataset.from_list(prompts)
    data = data.cast_column("images", List(Image())) if images else data
    args = config(max_steps=1, vision_loss_weight=0.0)
    FiVLTrainer(model, args, train_dataset=data, processing_class=processor).train()
    (warning,) = [message for message in warnings() if "blank" in message]
    assert "'r2'" in warning


def test_images_that_are_not_finite_name_their_row(model, processor, rows, config):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 40), np.nan, dtype=np.float32)).save(buffer, "TIFF")
    rows = [{**row, "images": [{"bytes": buffer.getvalue(), "path": None}]} for row in rows[:4]]
    data = Dataset.from_list(rows, features=FEATURES)
    trainer = FiVLTrainer(model, config(), train_dataset=data, processing_class=processor)
    with pytest.raises(ValueError, match=r"row 'scene-3-train-\d': an image with greys that are not finite"):
        trainer.train()
