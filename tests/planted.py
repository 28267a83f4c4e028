"""Models in which one known head does the looking, by construction: the oracle of everything that is said about heads.

Each image is grey but for squares of several colours; the planted head attends to what is red, and says "red" of it. No
other head or layer adds anything to what the model says, and none can tell red patches from the average of the others.
What is red in the random features of the vision tower is read off by least squares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers as tf
from families import make
from PIL import Image

from fivl_hf.explain.samples import prepare
from fivl_hf.images import image_bytes
from fivl_hf.keywords import word_token_id
from fivl_hf.masks import encode_mask

__all__ = ["VARIANTS", "Planted", "planted", "planted_rows"]

VARIANTS = ("plain", "grouped queries", "cross-attention")
SIDE, CELLS, ROWS = 56, 8, 12
# As many heads in a layer as it takes for a p-value below 0.05 by rank.
SIZES = {"hidden_size": 256, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 32}
VISION = {
    **SIZES,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "image_size": SIDE,
    "patch_size": SIDE // CELLS,
}
SHARPNESS = 12.0


@dataclass(frozen=True)
class Planted:
    """A model, its processor, and the (layer, head) that looks."""

    processor: Any
    model: Any
    head: tuple[int, int]


def planted_rows(count: int = ROWS, seed: int = 0) -> list[dict[str, Any]]:
    """Rows that each ask about a red square in an image with others."""
    return list(_rows(count, np.random.default_rng(seed)))


def _rows(count: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    patch = SIDE // CELLS
    for number in range(count):
        pixels = np.repeat(rng.integers(90, 166, size=(SIDE, SIDE, 1)), 3, axis=2).astype(np.uint8)
        for color in ((20, 20, 220), (20, 200, 20)):
            x, y = patch * rng.integers(0, CELLS - 1, size=2)
            pixels[y : y + 2 * patch, x : x + 2 * patch] = color
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
    processor, model, head = _mllama() if variant == "cross-attention" else _llava(1 if variant == "plain" else 2)
    model.eval()
    layers = model.get_decoder().layers
    attentions = [getattr(layer, "self_attn", None) or layer.cross_attn for layer in layers]
    with torch.no_grad():
        model.get_decoder().embed_tokens.weight[:, 0] = 3.0  # what all text tokens share
        model.get_output_embeddings().weight.mul_(10)
        for layer, attention in zip(layers, attentions, strict=True):
            attention.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for name, weight in model.named_parameters():
            if name.endswith("attn_gate"):  # closed, cross-attention says nothing
                weight.fill_(2.0)
        seen, red = _seen(model, processor, attentions[head[0]])
        difference = seen.T @ red / red.sum() - seen.T @ (1 - red) / (1 - red).sum()
        for attention in attentions:
            rows = attention.k_proj.weight
            rows -= torch.outer(rows @ difference, difference) / difference.square().sum()
        red_rows = torch.linalg.lstsq(
            torch.cat([seen, 0.1 * torch.eye(seen.shape[1])]),
            torch.cat([torch.stack([red, 1 - red], 1), torch.zeros(seen.shape[1], 2)]),
        ).solution.T
        word = word_token_id(processor.tokenizer, "red")
        _plant(attentions[head[0]], head[1], red_rows, model.get_output_embeddings().weight[word])
    return Planted(processor, model, head)


def _seen(model: Any, processor: Any, attention: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the keys' inputs (M, D) of a layer, and how red each is (M,)."""
    inputs, redness = [], []

    def keep(_: Any, arguments: Any, kwargs: Any) -> None:
        hidden = kwargs.get("cross_attention_states")
        inputs.append((kwargs.get("hidden_states", *arguments[:1]) if hidden is None else hidden).flatten(0, 1))

    hook = attention.register_forward_pre_hook(keep, with_kwargs=True)
    for row in planted_rows(40, seed=1):
        sample = prepare(model, processor, row)
        model(**sample.inputs, use_cache=False)
        red = torch.zeros(len(inputs[-1]))
        red[sample.image_positions] = torch.from_numpy(np.nan_to_num(sample.evidence[0].coverage)).float()
        redness.append(red)
    hook.remove()
    return torch.cat(inputs), torch.cat(redness)


def _plant(attention: Any, head: int, red_rows: torch.Tensor, word: torch.Tensor) -> None:
    """Make a head attend to what is red, and say a word of it."""
    size = attention.head_dim
    group = attention.q_proj.out_features // attention.k_proj.out_features
    own, key = head * size, head // group * size
    # The pair of dimensions that rotary positions turn least; the other tells what is not red, for normalised keys.
    red, other = size // 2 - 1, size // 2 - 2
    for sibling in range(head // group * group, head // group * group + group):
        attention.q_proj.weight[sibling * size + torch.tensor([red, other, red + size // 2])] = 0
    attention.q_proj.weight[own : own + size] = 0
    attention.q_proj.weight[own + red, 0] = 1.0
    attention.k_proj.weight[key + red] = SHARPNESS * red_rows[0]
    if hasattr(attention, "k_norm"):
        attention.k_proj.weight[key + other] = SHARPNESS * red_rows[1]
        # Normalised queries are as sharp in all heads: the others attend evenly.
        attention.q_norm.weight.zero_()
        attention.q_norm.weight[red] = SHARPNESS / size**0.5
        others = [each for each in range(attention.q_proj.out_features // size) if each != head]
        attention.q_proj.weight[[each * size + red for each in others]] = 0
    attention.v_proj.weight[key] = red_rows[0]
    attention.o_proj.weight[:, own] = 5 * word / word.norm()


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
    config.text_config.num_key_value_heads = 8
    for name, value in {"hidden_size": 32, "vision_output_dim": 64}.items():
        setattr(config.vision_config, name, value)
    return processor, tf.MllamaForConditionalGeneration(config), (3, 1)
