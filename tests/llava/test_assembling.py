import pytest
import torch
import transformers as tf

from fivl_hf.llava.assembling import assemble_llava, projector_weights
from fivl_hf.scenes.model import scene_processor

SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
# The names in the published mm_projector.bin.
PUBLISHED = {
    "model.mm_projector.0.weight": (32, 16),
    "model.mm_projector.0.bias": (32,),
    "model.mm_projector.2.weight": (32, 32),
    "model.mm_projector.2.bias": (32,),
}


def test_the_published_projector_is_read():
    tensors = {name: torch.randn(shape) for name, shape in PUBLISHED.items()}
    weights = projector_weights(tensors, "mm_projector.bin")
    assert set(weights) == {"linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"}
    assert weights["linear_2.bias"] is tensors["model.mm_projector.2.bias"]


def test_projectors_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"missing 0.bias, 0.weight, 2.bias, 2.weight; additional weight"):
        projector_weights({"model.mm_projector.weight": torch.ones(2, 2)}, "mm_projector.bin")


def test_the_processor_pads_and_the_template_is_vicunas(tmp_path):
    """Roles, system prompt and the end of an answer as in LLaVA's conversation "v1"."""
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=scene_processor().tokenizer.backend_tokenizer)
    language = tf.LlamaForCausalLM(tf.LlamaConfig(**SMALL, hidden_size=32, vocab_size=len(tokenizer)))
    vision = tf.CLIPVisionModel(tf.CLIPVisionConfig(**SMALL, hidden_size=16, image_size=40, patch_size=8))
    projector = projector_weights({name: torch.randn(shape) for name, shape in PUBLISHED.items()}, "x")
    assemble_llava(language, tokenizer, vision, projector, tmp_path)
    processor = tf.AutoProcessor.from_pretrained(tmp_path)
    turn = [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
    ]
    assert processor.apply_chat_template(turn, add_generation_prompt=True) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\nWhat is it? ASSISTANT: A cat.</s>"
        "USER: Where? ASSISTANT:"
    )
    assert processor.image_processor.do_pad
    assert processor.tokenizer.model_max_length == 2048
    model = tf.LlavaForConditionalGeneration.from_pretrained(tmp_path)
    assert model.config.image_token_id == processor.tokenizer.convert_tokens_to_ids("<image>")
    assert model.get_input_embeddings().num_embeddings % 64 == 0
    wrong = {**projector, "linear_1.weight": torch.ones(32, 17)}
    with pytest.raises(ValueError, match="does not fit between"):
        assemble_llava(language, tokenizer, vision, wrong, tmp_path / "out")
