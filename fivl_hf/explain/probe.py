"""The attention probe: exact attention of a few rows to a few columns, without any T × T tensor.

Shapes: B batch, H heads, T tokens, R rows, C columns, D head size.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from fivl_hf.models import uses_cross_attention

__all__ = ["AttentionRows", "attention_rows", "record_attention"]

_QUERIES = 256  # rows of the score matrix held at a time where SDPA cannot do it


@dataclass
class AttentionRows:
    """The recorded attention: ``layers[i]`` is layer i's attention, (B, H, R, C) float32.

    Of a model that looks at the image through cross-attention, only those layers are recorded.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    layers: dict[int, torch.Tensor] = field(default_factory=dict)

    def stacked(self) -> torch.Tensor:
        """Return all layers up to the last recorded one, (B, L, H, R, C); NaN for one that was not recorded.

        Raises:
            ValueError: nothing was recorded, or layers of different head counts.
        """
        if not self.layers:
            raise ValueError(
                "no attention was recorded: the model's attention layers do not go through transformers' attention "
                "interface (AttentionInterface), so they cannot be explained"
            )
        nothing = torch.full_like(next(iter(self.layers.values())), torch.nan)
        return torch.stack([self.layers.get(i, nothing) for i in range(max(self.layers) + 1)], dim=1)


@contextmanager
def record_attention(model: Any, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[AttentionRows]:
    """While open, every forward pass of ``model`` records softmax rows of its language model's attention.

    The pass itself is ordinary SDPA; gradients flow through the recorded rows. The row that *produces* token t is
    t − 1. The model's own attention implementation is put back on leaving, also after an error.

    Args:
        model: a transformers vision-language model with pluggable attention.
        rows: (B, R) query positions.
        columns: (B, C) key positions, such as those of the image tokens; of the cross-attention's keys where the model
            has such layers.

    Raises:
        ValueError: the model cannot swap its attention implementation, or has attention sinks.
    """
    recorded = AttentionRows(rows, columns)
    # A name for each use: two models, or threads, may record at the same time.
    name = f"fivl_probe_{uuid.uuid4().hex}"
    AttentionInterface.register(name, _recording(recorded, model.config))
    AttentionMaskInterface.register(name, sdpa_mask)
    # `set_attn_implementation` changes the configs of all parts; there is no public way to read them back one by one.
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = [(config, config._attn_implementation_internal) for config in configs.values()]
    try:
        model.set_attn_implementation({"text_config": name} if "text_config" in model.config.sub_configs else name)
        if model.config.get_text_config()._attn_implementation != name:
            raise ValueError(f"{type(model).__name__} does not let its attention implementation be set")
        yield recorded
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation
        AttentionInterface._global_mapping.pop(name, None)
        AttentionMaskInterface._global_mapping.pop(name, None)


def _recording(recorded: AttentionRows, config: Any) -> Any:
    looking = set(config.get_text_config().cross_attention_layers) if uses_cross_attention(config) else None

    def forward(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        if kwargs.get("s_aux") is not None:
            raise ValueError(f"attention with sinks ({type(module).__name__}) cannot be recorded")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        softcap = kwargs.get("softcap")
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        causal = looking is None or layer not in looking
        if looking is None or layer in looking:
            recorded.layers[layer] = attention_rows(
                query, key, attention_mask, scale, recorded.rows, recorded.columns, softcap, causal
            )
        # SDPA passes over the cap, and the pass would no longer be the model's own.
        if softcap is not None:
            return _capped_attention(query, key, value, attention_mask, scale, softcap, causal), None
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)

    return forward


def attention_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    rows: torch.Tensor,
    columns: torch.Tensor,
    softcap: float | None = None,
    causal: bool = True,
) -> torch.Tensor:
    """Return softmax attention of chosen rows to chosen columns, in float32.

    Args:
        query: (B, H, T, D).
        key: (B, K, S, D); K divides H (grouped-query attention); S = T but for cross-attention.
        attention_mask: (B, 1, T, S) bool (True attends) or additive, or None.
        rows, columns: (B, R), (B, C) positions.
        softcap: scores are limited to ± this by a tanh (Gemma 2).
        causal: whether no mask means causal attention; False for cross-attention.

    Returns:
        (B, H, R, C).
    """
    batch, heads, _, size = query.shape
    groups, length = key.shape[1], key.shape[2]
    wanted = rows.shape[1]
    # Grouped queries: the heads that share a key are folded into its rows, so that no key is repeated in memory.
    chosen = query.gather(2, rows[:, None, :, None].expand(-1, heads, -1, size))
    folded = chosen.reshape(batch, groups, heads // groups * wanted, size)
    scores = (folded @ key.transpose(-1, -2)).float() * scaling
    scores = _capped(scores.view(batch, heads, wanted, length), softcap)
    mask = attention_mask
    if mask is not None:
        mask = mask.expand(batch, -1, -1, -1)[..., :length]
        mask = mask.gather(2, rows[:, None, :, None].expand(-1, mask.shape[1], -1, length))
    scores = _masked(scores, mask, rows[:, None, :] if causal else None)
    probabilities = scores.softmax(dim=-1)
    return probabilities.gather(3, columns[:, None, None, :].expand(-1, heads, wanted, -1))


def _masked(scores: torch.Tensor, mask: torch.Tensor | None, rows: torch.Tensor | None) -> torch.Tensor:
    """Set scores (..., R, S) to −∞ where a mask forbids attention, or beyond each row (..., R) if it is causal."""
    if mask is None:
        if rows is None:
            return scores
        mask = torch.arange(scores.shape[-1], device=scores.device) <= rows[..., None]
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()


def _capped(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
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
    """Compute attention with capped scores, which SDPA cannot, some queries at a time: (B, T, H, D)."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    length = key.shape[2]
    outputs = []
    for start in range(0, query.shape[2], _QUERIES):
        part = query[:, :, start : start + _QUERIES]
        scores = _capped((part @ key.transpose(-1, -2)).float() * scaling, softcap)
        mask = None if attention_mask is None else attention_mask[:, :, start : start + _QUERIES, :length]
        rows = torch.arange(start, start + part.shape[2], device=query.device)
        scores = _masked(scores, mask, rows if causal else None)
        outputs.append(scores.softmax(dim=-1).to(value.dtype) @ value)
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()
