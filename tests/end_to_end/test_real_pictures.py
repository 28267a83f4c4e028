"""Photographs of many shapes with hand-written conversations and masks: rows, training, evaluation, heads."""

import json

import numpy as np
import pytest
import skimage.data
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
    set_seed,
)

from fivl_hf import FiVLTrainer
from fivl_hf.cli.main import main
from fivl_hf.evaluation.table import by_question, read_answers
from fivl_hf.images import image_bytes
from fivl_hf.keywords import nouns
from fivl_hf.masks import encode_mask, mask_boxes
from fivl_hf.scenes.model import CHAT_TEMPLATE
from fivl_hf.storage import load_rows, write_dataset

# What is where, as fractions of each image: (x0, y0, x1, y1).
IMAGES = {
    "astronaut": (
        skimage.data.astronaut,
        "Who is it?",
        "It is a smiling astronaut.",
        "smiling astronaut",
        (0.3, 0.05, 0.6, 0.5),
    ),
    "chelsea": (skimage.data.chelsea, "What animal is it?", "A striped cat.", "striped cat", (0.25, 0.1, 0.75, 0.6)),
    "coffee": (
        skimage.data.coffee,
        "What is on the table?",
        "A cup of coffee.",
        "cup of coffee",
        (0.3, 0.2, 0.65, 0.7),
    ),
    "rocket": (
        skimage.data.rocket,
        "What stands there?",
        "There is a white rocket.",
        "white rocket",
        (0.45, 0.3, 0.55, 0.95),
    ),
    "strip": (
        lambda: skimage.data.coffee()[150:190],
        "What is it?",
        "A thin strip.",
        "thin strip",
        (0.5, 0.0, 0.6, 1.0),
    ),
    "column": (
        lambda: skimage.data.rocket()[:, 300:337],
        "What is it?",
        "A tall rocket.",
        "tall rocket",
        (0.0, 0.4, 1.0, 0.6),
    ),
}


def image_row(name):
    load, question, answer, text, (x0, y0, x1, y1) = IMAGES[name]
    image = Image.fromarray(load())
    mask = np.zeros((image.height, image.width), dtype=bool)
    mask[int(y0 * image.height) : int(y1 * image.height), int(x0 * image.width) : int(x1 * image.width)] = True
    start = answer.index(text)
    return {
        "id": name,
        "images": [{"bytes": image_bytes(image, "JPEG"), "path": None}],
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "key_expressions": [
            {
                "turn": 0,
                "text": text,
                "start": start,
                "end": start + len(text),
                "keywords": list(nouns(text)),
                "boxes": mask_boxes(mask[None]).tolist(),
                "score": None,
                "image": 0,
            }
        ],
        "masks": [{"bytes": encode_mask(mask), "path": None}],
        "source": "scikit-image",
    }


def tokenizer_of(rows):
    """Byte-level BPE trained on the conversations."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<image>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=special
    )
    tokenizer.train_from_iterator((m["content"] for row in rows for m in row["messages"]), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", extra_special_tokens={"image_token": "<image>"}
    )


IMAGE_PROCESSORS = {
    "crop": CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
    "pad": LlavaImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, do_pad=True),
}


@pytest.fixture(params=IMAGE_PROCESSORS)
def photo_processor(request):
    return LlavaProcessor(
        image_processor=IMAGE_PROCESSORS[request.param],
        tokenizer=tokenizer_of([image_row(name) for name in IMAGES]),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def photo_model(processor):
    set_seed(0)
    tokenizer = processor.tokenizer
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**sizes, image_size=56, patch_size=14),
            text_config=LlamaConfig(
                **sizes,
                vocab_size=len(tokenizer),
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=None,
                pad_token_id=tokenizer.pad_token_id,
            ),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            image_seq_length=16,
            vision_feature_layer=-1,
        )
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def test_rows_to_heads(photo_processor, config, tmp_path, capsys):
    rows = [image_row(name) for name in IMAGES]
    write_dataset(tmp_path / "photos", {"train": rows}, title="Photos", description="Six photographs.")
    stored = load_rows(tmp_path / "photos", "train")

    trainer = FiVLTrainer(
        photo_model(photo_processor),
        config(
            output_dir=str(tmp_path / "model"),
            max_steps=60,
            per_device_train_batch_size=6,
            vision_loss_weight=0.3,
            learning_rate=5e-3,
            vision_max_coverage=0.5,
        ),
        train_dataset=stored,
        processing_class=photo_processor,
    )
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "vision_loss" in entry]
    assert log[-1]["vision_loss"] < 0.5 * log[0]["vision_loss"]
    assert log[-1]["language_loss"] < 0.5 * log[0]["language_loss"]
    assert 0 < log[0]["labelled_patches"] < 0.5
    trainer.save_model()

    common = ["--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "photos"), "--split", "train"]
    assert main(["evaluate", *common, "--output", str(tmp_path / "reliance"), "--max-new-tokens", "12"]) == 0
    reliance = json.loads((tmp_path / "reliance" / "reliance.json").read_text())
    assert reliance["n"] == 6
    assert reliance["random_overlap"] < 0.2
    answers = by_question(read_answers(tmp_path / "reliance" / "answers.jsonl"))
    assert answers.keys() == IMAGES.keys()
    assert main(["explain", *common, "--output", str(tmp_path / "heads"), "--pictures", "6"]) == 0
    explanation = json.loads((tmp_path / "heads" / "explanation.json").read_text())
    assert explanation["n"] >= 5
    assert len(list((tmp_path / "heads" / "pictures").glob("*.png"))) == 6
    assert "correlation" in capsys.readouterr().out
