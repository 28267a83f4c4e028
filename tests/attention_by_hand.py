"""Attention written out for tests, with edges that may be cut head by head."""

from collections.abc import Callable, Collection
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

__all__ = ["by_hand", "output_projections"]

Head = tuple[int, int]


def output_projections(model: Any) -> dict[int, torch.nn.Module]:
    """Return the output projection of each of the language model's attention layers."""
    found = {}
    for module in model.get_decoder().modules():
        if hasattr(module, "layer_idx") and hasattr(module, "o_proj"):
            found[module.layer_idx] = module.o_proj
    return found


@contextmanager
def by_hand(model: Any, cut: Collection[Head], allowed: Callable[[int, int, int], torch.Tensor]) -> Any:
    """While open, attention is computed as it is defined.

    Args:
        cut: heads in which only some edges are left.
        allowed: (layer, T, S) -> (T, S) which edges those are.
    """

    def forward(module, query, key, value, attention_mask, scaling=None, softcap=None, **_):
        heads, length = query.shape[1], key.shape[2]
        key, value = (each.repeat_interleave(heads // each.shape[1], 1) for each in (key, value))
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if attention_mask is None:
            attention_mask = torch.ones(scores.shape[-2:]).tril().bool()[None, None]
        mask = attention_mask[..., :length]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        for head in range(heads):
            if (module.layer_idx, head) in cut:
                edges = allowed(module.layer_idx, *scores.shape[-2:])
                scores[:, head] = scores[:, head].masked_fill(~edges, -torch.inf)
        output = scores.softmax(-1).nan_to_num(0) @ value
        return output.transpose(1, 2), None

    AttentionInterface.register("by_hand", forward)
    AttentionMaskInterface.register("by_hand", sdpa_mask)
    own = model.config.get_text_config()._attn_implementation
    try:
        _set(model, "by_hand")
        yield
    finally:
        _set(model, own)


def _set(model: Any, name: str) -> None:
    model.set_attn_implementation({"text_config": name} if "text_config" in model.config.sub_configs else name)
