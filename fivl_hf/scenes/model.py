"""Small LLaVAs for scenes: the real classes, random or pretrained weights, a tokenizer built on the spot."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from fivl_hf.scenes.questions import WORDS
from fivl_hf.scenes.rendering import COLORS, IMAGE_SIZE, SHAPES
from fivl_hf.scenes.styles import SIDE

__all__ = [
    "CHAT_TEMPLATE",
    "PRETRAINED",
    "free_model",
    "free_processor",
    "pretrained_model",
    "scene_model",
    "scene_processor",
]

# Vision tower, projector and language model as they are before stage 2; examples/pretrained_start/train.py makes it.
PRETRAINED = Path(__file__).with_name("pretrained.safetensors")

PATCH_SIZE = 8
_SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<image>")
# LLaVA-1.5's form with an end-of-turn mark; like it, without {% generation %} markers.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ 'USER:' if message['role'] == 'user' else ' ASSISTANT:' }}"
    "{% for block in message['content'] %}{% if block['type'] == 'image' %} <image>{% endif %}{% endfor %}"
    "{% for block in message['content'] %}{% if block['type'] == 'text' %} {{ block['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
_ALIGNED_WORDS = (
    *("what", "color", "is", "the", "shape", "of", "left", "right", "above", "below", "it", "a", "there"),
    *("user", "assistant", "What", "It", "There", "USER", "ASSISTANT", *COLORS, *SHAPES),
)


def scene_processor() -> Any:
    """Return a :class:`~transformers.LlavaProcessor` that knows every word a patch-aligned scene can hold."""
    return _processor(IMAGE_SIZE, _ALIGNED_WORDS, "?.:")


def free_processor() -> Any:
    """Return a :class:`~transformers.LlavaProcessor` that knows every word a free scene can hold."""
    return _processor(SIDE, WORDS, "?.:,")


def _processor(image_size: int, words: Sequence[str], marks: str) -> Any:
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    side = {"height": image_size, "width": image_size}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size=side),
        tokenizer=_tokenizer(words, marks),
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def scene_model(
    processor: Any,
    seed: int = 0,
    *,
    hidden_size: int = 96,
    heads: int = 4,
    vision_layers: int = 2,
    text_layers: int = 3,
) -> Any:
    """Return a :class:`~transformers.LlavaForConditionalGeneration` of about 0.5 M random weights."""
    sizes: dict[str, Any] = {"hidden_size": hidden_size, "num_attention_heads": heads}
    vision = {**sizes, "intermediate_size": hidden_size * 2, "num_hidden_layers": vision_layers}
    text = {**sizes, "intermediate_size": hidden_size * 2, "num_hidden_layers": text_layers}
    return _model(processor, seed, vision, text, feature_layer=-1)


def free_model(processor: Any, seed: int = 0) -> Any:
    """Return a :class:`~transformers.LlavaForConditionalGeneration` of about 0.9 M random weights for free scenes.

    As in LLaVA-1.5, the language model reads the vision tower's last but one layer.
    """
    vision = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 256, "num_hidden_layers": 4}
    text = {"hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 192, "num_hidden_layers": 3}
    return _model(processor, seed, vision, text, feature_layer=-2)


def pretrained_model(processor: Any) -> Any:
    """Return :func:`free_model` as LLaVA-1.5 is before stage 2.

    The vision tower was trained contrastively with captions, the language model on text, and the projector between
    them on captions while both were frozen.
    """
    from safetensors.torch import load_file

    model = free_model(processor)
    model.load_state_dict(load_file(PRETRAINED))
    return model


def _model(
    processor: Any, seed: int, vision_sizes: dict[str, Any], text_sizes: dict[str, Any], feature_layer: int
) -> Any:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        set_seed,
    )

    tokenizer = processor.tokenizer
    image_size = processor.image_processor.crop_size["height"]
    vision = CLIPVisionConfig(**vision_sizes, image_size=image_size, patch_size=PATCH_SIZE)
    text = LlamaConfig(
        **text_sizes,
        num_key_value_heads=text_sizes["num_attention_heads"],
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // PATCH_SIZE) ** 2,
        vision_feature_layer=feature_layer,
        vision_feature_select_strategy="default",
    )
    set_seed(seed)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _tokenizer(words: Sequence[str], marks: str) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["".join(pair) for pair in product(("", "Ġ"), words)] + [*marks, "Ġ"]
    vocabulary = {piece: i for i, piece in enumerate([*_SPECIAL, *pieces])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\w+|[^\w\s]|\s"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    pad, unk, bos, eos, image = _SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unk,
        bos_token=bos,
        eos_token=eos,
        extra_special_tokens={"image_token": image},
        clean_up_tokenization_spaces=False,
    )
