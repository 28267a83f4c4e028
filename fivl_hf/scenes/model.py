"""A small LLaVA for scenes: the real classes, random weights, a tokenizer built on the spot."""

from itertools import product
from typing import Any

from fivl_hf.scenes.rendering import COLORS, IMAGE_SIZE, SHAPES

__all__ = ["CHAT_TEMPLATE", "scene_model", "scene_processor"]

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


def scene_processor() -> Any:
    """Return a :class:`~transformers.LlavaProcessor` that knows every word a scene's conversation can hold."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=side),
        tokenizer=_tokenizer(),
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
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        set_seed,
    )

    tokenizer = processor.tokenizer
    sizes: dict[str, Any] = {"hidden_size": hidden_size, "num_attention_heads": heads}
    vision = CLIPVisionConfig(
        **sizes,
        intermediate_size=hidden_size * 2,
        num_hidden_layers=vision_layers,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    text = LlamaConfig(
        **sizes,
        num_key_value_heads=heads,
        intermediate_size=hidden_size * 2,
        num_hidden_layers=text_layers,
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
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    set_seed(seed)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _tokenizer() -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [
        "what",
        "color",
        "is",
        "the",
        "shape",
        "of",
        "left",
        "right",
        "above",
        "below",
        "it",
        "a",
        "there",
        "user",
        "assistant",
    ]
    words += ["What", "It", "There", "USER", "ASSISTANT", *COLORS, *SHAPES]
    pieces = ["".join(pair) for pair in product(("", "Ġ"), words)] + ["?", ".", ":", "Ġ"]
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
