"""Models in which one known head does the looking, by construction: the oracle of everything that is said about heads.

Each image is grey but for a red square; the planted head attends to what is red, and says "red" of it. All weights but
its own are random, and no other head or layer adds anything to what the model says. What is red in the random features
of the vision tower is read off by least squares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers as tf
from families import FAMILIES, make
from PIL import Image

from fivl_hf.images import image_bytes
from fivl_hf.masks import encode_mask

__all__ = ["VARIANTS", "Planted", "planted", "planted_rows"]

VARIANTS = ("plain", "grouped queries", "cross-attention")
SIDE, CELLS, ROWS = 56, 8, 12
SIZES = {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
VISION = {**SIZES, "num_hidden_layers": 1, "image_size": SIDE, "patch_size": SIDE // CELLS}
HEAD_SIZE = SIZES["hidden_size"] // SIZES["num_attention_heads"]
SHARPNESS = 12.0


@dataclass(frozen=True)
class Planted:
    """A model, its processor, and the (layer, head) that looks."""

    processor: Any
    model: Any
    head: tuple[int, int]


def planted_rows(count: int = ROWS, seed: int = 0) -> list[dict[str, Any]]:
    """Rows that each ask about a red square somewhere in a grey image."""
    return list(_rows(count, np.random.default_rng(seed)))


def _rows(count: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    patch = SIDE // CELLS
    for number in range(count):
        pixels = np.repeat(rng.integers(90, 166, size=(SIDE, SIDE, 1)), 3, axis=2).astype(np.uint8)
        x, y = patch * rng.integers(0, CELLS - 2, size=2)
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[y : y + 3 * patch, x : x + 3 * patch] = True
        pixels[mask] = (220, 20, 20)
        answer = "It is a red ring."
        yield {
            "id": f"planted-{number}",
            "images": [{"bytes": image_bytes(Image.fromarray(pixels)), "path": None}],
            "messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": answer}],
            "key_expressions": [
                {
                    "text": "red",
                    "turn": 0,
                    "start": answer.index("red"),
                    "end": answer.index("red") + 3,
                    "image": 0,
                    "keywords": ["red"],
                    "boxes": [[float(x), float(y), float(x + 3 * patch), float(y + 3 * patch)]],
                    "score": 1.0,
                }
            ],
            "masks": [encode_mask(mask)],
            "source": "planted",
        }


def planted(variant: str) -> Planted:
    """Make the model of a variant."""
    if variant == "cross-attention":
        processor, model, head = _mllama()
    else:
        processor, model, head = _llava(1 if variant == "plain" else 2)
    text = model.config.get_text_config()
    decoder = model.get_decoder()
    with torch.no_grad():
        decoder.embed_tokens.weight[:, 0] = 3.0  # what all text tokens share
        for layer in decoder.layers:
            attention = getattr(layer, "self_attn", None) or layer.cross_attn
            attention.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for name, weight in model.named_parameters():
            if name.endswith("attn_gate"):
                weight.fill_(2.0)
        _plant(model, processor, head, HEAD_SIZE, text.num_attention_heads // text.num_key_value_heads)
    return Planted(processor, model.eval(), head)


def _llava(group: int) -> tuple[Any, Any, tuple[int, int]]:
    processor, _ = make("LLaVA-1.5, crop", SIDE)
    tokenizer = processor.tokenizer
    tf.set_seed(0)
    config = tf.LlavaConfig(
        vision_config={**VISION, "model_type": "clip_vision_model", "projection_dim": 16},
        text_config={
            **SIZES,
            "model_type": "llama",
            "num_key_value_heads": SIZES["num_attention_heads"] // group,
            "vocab_size": len(tokenizer),
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=CELLS**2,
        vision_feature_layer=-1,
    )
    return processor, tf.LlavaForConditionalGeneration(config), (1, 2)


def _mllama() -> tuple[Any, Any, tuple[int, int]]:
    processor, small = make("Mllama", SIDE)
    config = small.config
    tf.set_seed(0)
    for name, value in {**SIZES, "num_hidden_layers": 4}.items():
        setattr(config.text_config, name, value)
    config.text_config.num_key_value_heads = 2
    for name, value in {"hidden_size": 32, "vision_output_dim": 64}.items():
        setattr(config.vision_config, name, value)
    return processor, tf.MllamaForConditionalGeneration(config), (3, 1)
