"""The parts of LLaVA-1.5 in tiny, in the files that their hub repositories hold."""

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers as tf

SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
# Names and shapes in the published mm_projector.bin, tiny.
PROJECTOR = {
    "model.mm_projector.0.weight": (32, 16),
    "model.mm_projector.0.bias": (32,),
    "model.mm_projector.2.weight": (32, 32),
    "model.mm_projector.2.bias": (32,),
}
_TEXT = "What is it? It is a red ring and a blue cross. A cat sits near two dogs. USER: ASSISTANT: Is there a circle?"


def save_tokenizer(folder: Path) -> None:
    """Save a LLaMA tokenizer as Vicuna's repository holds it: ``tokenizer.model``, without ``tokenizer.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([_TEXT] * 50),
        model_writer=model,
        vocab_size=90,
        model_type="bpe",
        bos_id=1,
        eos_id=2,
        unk_id=0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": _special("<s>"),
        "eos_token": _special("</s>"),
        "unk_token": _special("<unk>"),
        "pad_token": None,
        "legacy": False,
        "model_max_length": 4096,
        "tokenizer_class": "LlamaTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _special(content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"__type": "AddedToken", "content": content, **flags}


def save_clip(folder: Path) -> Any:
    """Save CLIP whole, text model and all; returns its vision tower."""
    text = {**SMALL, "hidden_size": 16}
    vision = {**text, "image_size": 40, "patch_size": 8}
    clip = tf.CLIPModel(tf.CLIPConfig(vision_config=vision, text_config=text))
    clip.save_pretrained(folder)
    return tf.CLIPVisionModel.from_pretrained(folder)


def language_model(vocabulary: int) -> Any:
    """A LLaMA with random weights, and what Vicuna's generation settings add."""
    return tf.LlamaForCausalLM(tf.LlamaConfig(**SMALL, hidden_size=32, vocab_size=vocabulary))


def projector() -> dict[str, torch.Tensor]:
    """Random weights by LLaVA's names."""
    return {name: torch.randn(shape) for name, shape in PROJECTOR.items()}


def save_shards(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Save weights as two ``pytorch_model-*.bin`` with their index."""
    names = sorted(weights)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    index = {name: shard for shard, held in shards.items() for name in held}
    for shard, held in shards.items():
        torch.save({name: weights[name] for name in held}, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
