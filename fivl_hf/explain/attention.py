"""The attention of a language model, replaced while a context is open: the ground of the probe and of the knock-out.

Shapes: B batch, H heads, K key heads, T queries, S keys, D head size.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from fivl_hf.models import uses_cross_attention

__all__ = ["Attention", "is_causal", "masked", "ordinary_attention", "replaced_attention", "soft_capped"]

_OURS = "fivl_attention_"
_QUERIES = 256  # rows of the score matrix held at a time where SDPA cannot do it

Attention = Callable[..., tuple[torch.Tensor, None]]
"""(module, query (B, H, T, D), key (B, K, S, D), value, attention_mask, scaling, **kwargs) -> (B, T, H, D), None."""


@contextmanager
def replaced_attention(model: Any, replace: Callable[[Attention], Attention]) -> Iterator[None]:
    """While open, every attention layer of the language model runs another function.

    The model's own attention implementation is put back on leaving, also after an error. Contexts may be nested: the
    inner one replaces what the outer one gave.

    Args:
        model: a transformers vision-language model with pluggable attention.
        replace: takes the function that would run, ordinary SDPA or that of an outer context, and returns another.

    Raises:
        ValueError: the model cannot swap its attention implementation.
    """
    # A name for each use: two models, or threads, may be under study at the same time.
    name = f"{_OURS}{uuid.uuid4().hex}"
    current = model.config.get_text_config()._attn_implementation
    ordinary: Attention = partial(ordinary_attention, model.config)
    outer = AttentionInterface._global_mapping[current] if str(current).startswith(_OURS) else ordinary
    AttentionInterface.register(name, replace(outer))
    AttentionMaskInterface.register(name, sdpa_mask)
    # `set_attn_implementation` changes the configs of all parts; there is no public way to read them back one by one.
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = [(config, config._attn_implementation_internal) for config in configs.values()]
    try:
        model.set_attn_implementation({"text_config": name} if "text_config" in model.config.sub_configs else name)
        if model.config.get_text_config()._attn_implementation != name:
            raise ValueError(f"{type(model).__name__} does not let its attention implementation be set")
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation
        AttentionInterface._global_mapping.pop(name, None)
        AttentionMaskInterface._global_mapping.pop(name, None)


def is_causal(config: Any, layer: int) -> bool:
    """Return whether a layer attends to the sequence before each token; False for cross-attention to the image."""
    return not uses_cross_attention(config) or layer not in config.get_text_config().cross_attention_layers


def ordinary_attention(
    config: Any,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Run SDPA, or attention with capped scores (Gemma 2), which SDPA would pass over; ``config`` is the model's.

    Raises:
        ValueError: the layer has learned attention sinks (``s_aux``).
    """
    if kwargs.get("s_aux") is not None:
        raise ValueError(f"learned attention sinks (s_aux of {type(module).__name__}) are not supported")
    if (softcap := kwargs.get("softcap")) is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        causal = is_causal(config, int(module.layer_idx))  # type: ignore[arg-type]
        return _capped_attention(query, key, value, attention_mask, scale, softcap, causal), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


def masked(scores: torch.Tensor, mask: torch.Tensor | None, rows: torch.Tensor | None) -> torch.Tensor:
    """Set scores (..., R, S) to −∞ where a mask forbids attention, or beyond each row (..., R) if it is causal."""
    if mask is None:
        if rows is None:
            return scores
        mask = torch.arange(scores.shape[-1], device=scores.device) <= rows[..., None]
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()


def soft_capped(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
    """Limit scores to ± softcap by a tanh; None leaves them."""
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def _capped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    softcap: float,
    causal: bool,
) -> torch.Tensor:
    """Compute attention with capped scores, some queries at a time: (B, T, H, D)."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    length, offset = key.shape[2], key.shape[2] - query.shape[2]
    outputs = []
    for start in range(0, query.shape[2], _QUERIES):
        part = query[:, :, start : start + _QUERIES]
        scores = soft_capped((part @ key.transpose(-1, -2)).float() * scaling, softcap)
        mask = None if attention_mask is None else attention_mask[:, :, start : start + _QUERIES, :length]
        rows = torch.arange(start, start + part.shape[2], device=query.device) + offset
        scores = masked(scores, mask, rows if causal else None)
        outputs.append(scores.softmax(dim=-1).to(value.dtype) @ value)
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()
