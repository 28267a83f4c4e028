"""A small random model of a class, in which every token sees only itself: what the probe asks."""

import json
from functools import lru_cache
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForImageTextToText
from transformers.masking_utils import sdpa_mask

from fivl_hf.geometry.axes import UnknownProcessorError

__all__ = ["SEES_TOO_MUCH", "small_twin", "unprobed"]

SEES_TOO_MUCH = "each of its visual tokens sees too much of the image to have a box (as in perceivers and Q-Formers)"
_ITSELF = "fivl_itself"
_VOCABULARY = 64


@lru_cache(maxsize=4)
def small_twin(config_class: Any, config_json: str) -> tuple[Any, dict[int, int]]:
    """Return a model of the same class with one or two layers, random weights, float64 and attention to itself alone.

    Returns:
        The model, and its token id for each special id of the config; other tokens are 0.

    Raises:
        UnknownProcessorError: the class is not known to transformers' auto classes, or cannot be made small.
    """
    # With attention to itself alone, what a token depends on is what the projector and the merging make of the pixels.
    AttentionInterface.register(_ITSELF, _attend_to_itself)
    AttentionMaskInterface.register(_ITSELF, sdpa_mask)
    config = config_class.from_dict(json.loads(config_json))
    # The caller's random numbers stay as they are.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            ids = _make_small(config)
            model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).double().eval()
        except Exception as error:
            raise unprobed(config_class.__name__, f"no small model of it could be made: {error}") from error
        with torch.no_grad():
            for parameter in model.parameters():
                # Some begin at zero, which would hide what depends on them.
                spread = 0.05 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
                parameter.copy_(torch.randn_like(parameter) * spread + (1.0 if parameter.ndim == 1 else 0.0))
    model.requires_grad_(False)
    model.set_attn_implementation(_ITSELF)
    return model, ids


def _make_small(config: Any) -> dict[int, int]:
    """Shrink what does not matter to where tokens come from; returns new token ids for old ones."""
    text, vision = config.get_text_config(), config.vision_config
    ids: dict[int, int] = {}
    # Special tokens have ids beyond the small vocabulary: each gets a new one from 3 on, after pad, BOS and EOS.
    for name, value in config.to_dict().items():
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int):
            ids[value] = ids.get(value, len(ids) + 3)
            setattr(config, name, ids[value])
    _set(text, num_hidden_layers=1, intermediate_size=16, vocab_size=_VOCABULARY)
    _set(text, pad_token_id=0, bos_token_id=1, eos_token_id=2, cross_attention_layers=[0])
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:1]
    _set(vision, num_hidden_layers=2, depth=2, num_layers=2, intermediate_size=16)
    _set(vision, deepstack_visual_indexes=[], fullatt_block_indexes=[1])
    if getattr(vision, "layer_types", None):
        vision.layer_types = vision.layer_types[:2]
    _set(config, vision_feature_layer=-1)
    return ids


def _set(config: Any, **values: Any) -> None:
    for name, value in values.items():
        if getattr(config, name, None) is not None:
            setattr(config, name, value)


def _attend_to_itself(
    module: Any, query: torch.Tensor, _key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    if query.shape[2] != value.shape[2]:
        raise unprobed(type(module).__name__, SEES_TOO_MUCH)
    groups = query.shape[1] // value.shape[1]
    return value.repeat_interleave(groups, 1).transpose(1, 2).contiguous(), None


def unprobed(name: str, reason: str) -> UnknownProcessorError:
    """Return the error of a model that cannot be probed, with its reason."""
    return UnknownProcessorError(
        f"token boxes of {name} are not known and could not be probed: {reason}. Where boxes exist, register them with "
        "fivl_hf.geometry.register_token_boxes."
    )
