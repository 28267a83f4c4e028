import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image

from fivl_hf.geometry import token_boxes
from fivl_hf.keywords import word_token_id
from fivl_hf.masks import decode_mask, encode_mask
from fivl_hf.training.collator import FiVLCollator
from fivl_hf.training.config import VisionModelingOptions


@pytest.fixture
def make(processor):
    def collator(**fields):
        options = fields.pop("options", VisionModelingOptions())
        image_token_id = processor.tokenizer.convert_tokens_to_ids("<image>")
        return FiVLCollator(
            processor=processor, image_token_id=image_token_id, **{"answers_only": True, **fields}, options=options
        )

    return collator


def per_patch_labels(row, processor, size):
    """The obvious loop: each patch looks at every mask's pixels."""
    labels = []
    for box in token_boxes(processor, size):
        x0, y0, x1, y1 = box.astype(int)
        label = -100
        for expression, mask in zip(row["key_expressions"], row["masks"], strict=True):
            if decode_mask(mask)[y0:y1, x0:x1].any():
                label = word_token_id(processor.tokenizer, expression["keywords"][0])
                break
        labels.append(label)
    return labels


def test_labels_are_the_keywords_under_the_masks(make, processor, dataset):
    examples = [dataset[i] for i in range(8)]
    batch = make()([dict(e) for e in examples])
    is_image = batch["input_ids"] == make().image_token_id
    assert (batch["vision_labels"][~is_image] == -100).all()
    for i, row in enumerate(examples):
        assert batch["vision_labels"][i][is_image[i]].tolist() == per_patch_labels(row, processor, (40, 40))


def test_text_loss_is_on_every_answer(make, processor, dataset):
    batch = make()([dict(dataset[0])])
    kept = batch["labels"][0] >= 0
    answers = [m["content"] for m in dataset[0]["messages"] if m["role"] == "assistant"]
    assert processor.tokenizer.decode(batch["labels"][0][kept]) == "".join(f" {a}</s>" for a in answers)


def test_full_loss_leaves_no_position_to_both_tasks(make, dataset):
    batch = make(answers_only=False)([dict(dataset[i]) for i in range(4)])
    shifted = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    assert ((shifted != -100) & (batch["vision_labels"] != -100)).sum() == 0


def test_text_only_rows_and_rows_without_expressions(make, dataset):
    plain = {**dataset[0], "key_expressions": [], "masks": []}
    text_only = {**plain, "images": []}
    batch = make()([dict(dataset[1]), plain, text_only])
    assert (batch["vision_labels"][0] != -100).any()
    assert (batch["vision_labels"][1:] == -100).all()
    alone = make()([text_only])
    assert "pixel_values" not in alone
    assert (alone["vision_labels"] == -100).all()


def test_ordinary_trl_rows_have_no_evidence_columns(make, dataset):
    batch = make()([{"images": dataset[0]["images"], "messages": dataset[0]["messages"]}])
    assert (batch["vision_labels"] == -100).all()


def test_two_images_each_with_their_mask(make, processor, dataset):
    first, second = dataset[0], dataset[1]
    through_question = {"start": -1, "end": -1, "turn": 0}
    expressions = [{**r["key_expressions"][0], **through_question, "image": i} for i, r in enumerate((first, second))]
    texts = " and ".join(expression["text"] for expression in expressions)
    row = {
        **first,
        "messages": [{"role": "user", "content": f"Where are {texts}?"}, {"role": "assistant", "content": "There."}],
        "images": [first["images"][0], second["images"][0]],
        "key_expressions": expressions,
        "masks": [first["masks"][0], second["masks"][0]],
    }
    batch = make()([row])
    labels = batch["vision_labels"][0][batch["input_ids"][0] == make().image_token_id]
    alone = [{**r, "key_expressions": [r["key_expressions"][0]], "masks": [r["masks"][0]]} for r in (first, second)]
    expected = [label for r in alone for label in per_patch_labels(r, processor, (40, 40))]
    assert labels.tolist() == expected


def test_a_truncated_answer_keeps_its_patches(make, dataset):
    whole = make()([dict(dataset[0])])
    cut = make(max_length=32)([dict(dataset[0])])
    assert cut["input_ids"].shape[1] == 32
    assert (cut["labels"] == -100).all()
    assert torch.equal(cut["vision_labels"], whole["vision_labels"][:, :32])


def test_truncated_image_tokens_are_an_error(make, dataset):
    with pytest.raises(ValueError, match=r"max_length \(10\) cuts off image tokens.*scene-3-train-0"):
        make(max_length=10)([dict(dataset[0])])


def test_an_unreadable_image_names_the_row(make, dataset):
    row = {**dataset[0], "id": "bad-7", "images": [{"bytes": b"nothing", "path": None}]}
    with pytest.raises(ValueError, match="row 'bad-7'.*unreadable"):
        make()([row])


def test_a_mask_of_another_size_names_the_row(make, dataset):
    small = Image.open(io.BytesIO(encode_mask(np.ones((5, 7), dtype=bool))))
    row = {**dataset[0], "id": "bad-8", "masks": [small] * len(dataset[0]["masks"])}
    with pytest.raises(ValueError, match=r"row 'bad-8': masks\[0\] is 7x5, its image 40x40"):
        make()([row])
    with pytest.raises(ValueError, match=r"row 'bad-8': 2 key expressions, but 0 masks"):
        make()([{**row, "masks": []}])


def test_the_image_token_is_asked_for(processor):
    with pytest.raises(ValueError, match="model_config=model.config"):
        FiVLCollator(processor)


def test_random_keywords_differ_by_epoch_and_by_nothing_else(make, processor, dataset):
    row = copy.deepcopy(dataset[0])
    row["key_expressions"][0]["keywords"] = ["circle", "square", "ring", "cross"]
    row = {**row, "key_expressions": row["key_expressions"][:1], "masks": row["masks"][:1]}
    names = {word_token_id(processor.tokenizer, w) for w in ("circle", "square", "ring", "cross")}

    def drawn(collator, epoch, *others):
        collator.epoch = epoch
        labels = collator([*others, dict(row)])["vision_labels"][-1]
        return labels[labels != -100].unique().tolist()

    by_epoch = [drawn(make(), epoch) for epoch in range(12)]
    assert all(len(d) == 1 and d[0] in names for d in by_epoch)
    assert len({d[0] for d in by_epoch}) > 1
    assert by_epoch == [drawn(make(), epoch, dict(dataset[3])) for epoch in range(12)]
    other_seed = [drawn(make(options=VisionModelingOptions(seed=5)), epoch) for epoch in range(12)]
    assert other_seed != by_epoch


def test_head_keyword_and_missing_keywords(make, processor, dataset):
    row = {**dataset[0], "key_expressions": dataset[0]["key_expressions"][:1], "masks": dataset[0]["masks"][:1]}
    text = "ring of circle"
    row["messages"] = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": text}]
    span = {"turn": 0, "text": text, "start": 0, "end": len(text)}
    row["key_expressions"] = [{**row["key_expressions"][0], **span, "keywords": ["ring", "circle"]}]
    labels = make(options=VisionModelingOptions(keyword="head"))([dict(row)])["vision_labels"]
    assert labels[labels != -100].unique().tolist() == [word_token_id(processor.tokenizer, "ring")]
    row["key_expressions"] = [{**row["key_expressions"][0], "keywords": []}]
    assert (make()([dict(row)])["vision_labels"] == -100).all()


def test_large_masks_supervise_nothing(make, dataset):
    everything = Image.open(io.BytesIO(encode_mask(np.ones((40, 40), dtype=bool))))
    row = {**dataset[0], "key_expressions": dataset[0]["key_expressions"][:1], "masks": [everything]}
    assert (make()([dict(row)])["vision_labels"] == -100).all()
    allowed = make(options=VisionModelingOptions(max_coverage=1.0))([dict(row)])
    assert (allowed["vision_labels"] != -100).sum() == 25


def test_undecoded_images_give_the_same_batch(make, rows, dataset):
    decoded, encoded = make()([dict(dataset[0])]), make()([dict(rows[0])])
    for key in decoded:
        assert torch.equal(decoded[key], encoded[key])
