import pytest
import torch
import transformers as tf
from llava_parts import PROJECTOR, language_model, projector, save_clip, save_tokenizer

from fivl_hf.llava.assembling import assemble_llava, llama_tokenizer, projector_weights
from fivl_hf.training.collator import FiVLCollator


def test_the_published_projector_is_read():
    tensors = projector()
    assert set(tensors) == set(PROJECTOR)
    weights = projector_weights(tensors, "mm_projector.bin")
    assert set(weights) == {"linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"}
    assert weights["linear_2.bias"] is tensors["model.mm_projector.2.bias"]


def test_projectors_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"missing 0.bias, 0.weight, 2.bias, 2.weight; additional weight"):
        projector_weights({"model.mm_projector.weight": torch.ones(2, 2)}, "mm_projector.bin")


def test_the_processor_pads_and_the_template_is_vicunas(tmp_path):
    """Roles, system prompt and the end of an answer as in LLaVA's conversation "v1"."""
    save_tokenizer(tmp_path / "language")
    tokenizer = llama_tokenizer(tmp_path / "language")
    language, vision = language_model(len(tokenizer)), save_clip(tmp_path / "clip")
    weights = projector_weights(projector(), "mm_projector.bin")
    assemble_llava(language, tokenizer, vision, weights, tmp_path / "llava")
    processor = tf.AutoProcessor.from_pretrained(tmp_path / "llava")
    turn = [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
    ]
    assert processor.apply_chat_template(turn, add_generation_prompt=True) == (
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\nWhat is it? ASSISTANT: A cat.</s>"
        "USER: Where? ASSISTANT:"
    )
    assert processor.image_processor.do_pad
    assert processor.tokenizer.model_max_length == 2048
    model = tf.LlavaForConditionalGeneration.from_pretrained(tmp_path / "llava")
    assert model.config.image_token_id == processor.tokenizer.convert_tokens_to_ids("<image>")
    assert model.get_input_embeddings().num_embeddings % 64 == 0
    wrong = {**weights, "linear_1.weight": torch.ones(32, 17)}
    with pytest.raises(ValueError, match="does not fit between"):
        assemble_llava(language, tokenizer, vision, wrong, tmp_path / "out")


def test_training_begins_with_bos_as_llavas_own_does(tmp_path, rows):
    """The collator adds no special tokens, as TRL does not: the template writes the first one."""
    save_tokenizer(tmp_path / "language")
    tokenizer = llama_tokenizer(tmp_path / "language")
    weights = projector_weights(projector(), "mm_projector.bin")
    assemble_llava(language_model(len(tokenizer)), tokenizer, save_clip(tmp_path / "clip"), weights, tmp_path / "llava")
    processor = tf.AutoProcessor.from_pretrained(tmp_path / "llava")
    config = tf.AutoConfig.from_pretrained(tmp_path / "llava")
    batch = FiVLCollator(processor=processor, model_config=config, answers_only=True)(rows[:2])
    bos = processor.tokenizer.bos_token_id
    assert (batch["input_ids"] == bos).sum(dim=1).tolist() == [1, 1]
    assert batch["input_ids"][:, 0].tolist() == [bos, bos]
