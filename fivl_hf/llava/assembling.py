"""LLaVA-1.5 as transformers loads it, put together from a language model, a vision tower and a projector."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlavaConfig, LlavaForConditionalGeneration, LlavaImageProcessor, LlavaProcessor

__all__ = ["CHAT_TEMPLATE", "assemble_llava", "llama_tokenizer", "projector_weights"]

# Vicuna's. TRL trains without the tokens that a tokenizer adds by itself, so the template writes the first one.
CHAT_TEMPLATE = (
    "{{ bos_token }}A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. {% for message in messages %}"
    "{{ 'USER: ' if message['role'] == 'user' else ' ASSISTANT: ' }}{% for block in message['content'] %}"
    "{% if block['type'] == 'image' %}<image>\n{% endif %}{% endfor %}{% for block in message['content'] %}"
    "{% if block['type'] == 'text' %}{{ block['text'] }}{% endif %}{% endfor %}{% if message['role'] == 'assistant' %}"
    "</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
_LONGEST = 2048
# LLaVA's projector is a linear layer, GELU, a linear layer; transformers names the layers.
_PROJECTOR = {
    f"{place}.{kind}": f"{name}.{kind}"
    for place, name in (("0", "linear_1"), ("2", "linear_2"))
    for kind in ("weight", "bias")
}


def llama_tokenizer(source: str | Path) -> Any:
    """Load the tokenizer of Vicuna or of LLaVA-1.5, which come as a ``tokenizer.model`` alone.

    Raises:
        FileNotFoundError: a folder without it.
        ImportError: the packages that read it are missing.
    """
    missing = [name for name in ("sentencepiece", "google.protobuf") if not _is_installed(name)]
    folder = Path(source)
    if folder.is_dir() and not any((folder / name).is_file() for name in ("tokenizer.model", "tokenizer.json")):
        raise FileNotFoundError(f"{folder} holds no tokenizer.model")
    if missing and not (folder / "tokenizer.json").is_file():
        raise ImportError(
            "the tokenizer.model of Vicuna and LLaVA needs sentencepiece and protobuf: `pip install fivl-hf[llava]`"
        )
    return AutoTokenizer.from_pretrained(str(source))


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def projector_weights(tensors: Mapping[str, torch.Tensor], source: str | Path) -> dict[str, torch.Tensor]:
    """Return a projector's weights by transformers' names.

    Args:
        tensors: by LLaVA's names, ``[model.]mm_projector.0.weight`` and so on, as in ``mm_projector.bin``.
        source: where they come from, for the error.

    Raises:
        ValueError: weights are missing, or there are others: a projector of another kind.
    """
    found = {name.rpartition("mm_projector.")[2]: name for name in tensors}
    if set(found) != set(_PROJECTOR):
        missing, additional = sorted(set(_PROJECTOR) - set(found)), sorted(set(found) - set(_PROJECTOR))
        raise ValueError(
            f"{source} does not hold the two linear layers of LLaVA-1.5's projector (mlp2x_gelu): missing "
            f"{', '.join(missing) or 'nothing'}; additional {', '.join(additional) or 'nothing'}"
        )
    return {_PROJECTOR[short]: tensors[name] for short, name in found.items()}


def assemble_llava(
    language: Any, tokenizer: Any, vision: Any, projector: Mapping[str, torch.Tensor], output: str | Path
) -> None:
    """Save a ``LlavaForConditionalGeneration`` and its processor, made of the parts' weights, in a folder.

    Images are padded to a square with CLIP's mean colour, as LLaVA-1.5 was trained; conversations are in Vicuna's
    format, of up to 2,048 tokens.

    Args:
        language: ``LlamaForCausalLM``; its embeddings gain ``<image>`` and ``<pad>``. It is changed in place.
        tokenizer: the language model's; changed in place, too.
        vision: ``CLIPVisionModel``; features come from its second-to-last layer.
        projector: weights by transformers' names (:func:`projector_weights`).
        output: folder to write.

    Raises:
        ValueError: the projector does not fit between the two models.
    """
    tokenizer.add_tokens(["<image>", "<pad>"], special_tokens=True)
    tokenizer.pad_token = "<pad>"
    tokenizer.model_max_length = _LONGEST
    # New embeddings are drawn at random: the same ones each time.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        language.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    language.config.pad_token_id = tokenizer.pad_token_id
    config = LlavaConfig(
        vision_config=vision.config.to_dict(),
        text_config=language.config.to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(vision.config.image_size // vision.config.patch_size) ** 2,
    )
    with torch.device("meta"):
        model: Any = LlavaForConditionalGeneration(config)
    model.model.language_model = language.model
    model.lm_head = language.lm_head
    model.model.vision_tower = vision
    try:
        model.model.multi_modal_projector.load_state_dict(dict(projector), assign=True)
    except RuntimeError as error:
        raise ValueError(f"the projector does not fit between vision tower and language model: {error}") from error
    model.to(language.dtype).save_pretrained(output)
    # CLIP's own processor crops to the middle of an image; LLaVA-1.5 was trained on images padded to a square.
    side = vision.config.image_size
    sizes: dict[str, Any] = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    processor = LlavaProcessor(
        LlavaImageProcessor(**sizes, do_pad=True),
        tokenizer,
        patch_size=vision.config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(output)
