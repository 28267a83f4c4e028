"""FiVLTrainer and the explanation on a family other than LLaVA-1.5: tiles, and newline tokens that see nothing."""

import pytest
from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration, LlavaNextProcessor
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from fivl_hf import FiVLTrainer
from fivl_hf.explain.analysis import explain

PINPOINTS = [[40, 80], [80, 40], [80, 80]]


@pytest.fixture
def next_processor(processor):
    image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40}, image_grid_pinpoints=PINPOINTS
    )
    return LlavaNextProcessor(
        image_processor=image_processor,
        tokenizer=processor.tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=processor.chat_template,
        image_token=processor.image_token,
    )


@pytest.fixture
def next_model(next_processor):
    tokenizer = next_processor.tokenizer
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = LlavaNextConfig(
        vision_config={
            **small,
            "model_type": "clip_vision_model",
            "image_size": 40,
            "patch_size": 8,
            "projection_dim": 16,
        },
        text_config={**small, "model_type": "llama", "vocab_size": len(tokenizer), **ids},
        image_token_index=tokenizer.convert_tokens_to_ids(next_processor.image_token),
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=25,
    )
    return LlavaNextForConditionalGeneration(config)


def test_llava_next_learns_its_patches(next_model, next_processor, dataset, config):
    trainer = FiVLTrainer(
        model=next_model,
        args=config(max_steps=20, learning_rate=1e-2),
        train_dataset=dataset,
        processing_class=next_processor,
    )
    trainer.train()
    losses = [entry["vision_loss"] for entry in trainer.state.log_history if "vision_loss" in entry]
    labelled = [entry["labelled_patches"] for entry in trainer.state.log_history if "labelled_patches" in entry]
    assert losses[-1] < losses[0] - 0.5
    assert all(0.05 < share < 0.6 for share in labelled)


def test_llava_next_is_explained(next_model, next_processor, rows):
    found = explain(next_model.eval(), next_processor, rows[:4])
    assert found.alignment.mean().shape == (2, 2)
    assert found.segmentation["n"] > 0
