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

from fivl_hf.models import looks_across

__all__ = ["AttentionRows", "attention_rows", "record_attention"]

_QUERIES = 256  # rows of the score matrix held at a time where SDPA cannot do it


@dataclass
class AttentionRows:
    """What the probe records: ``layers[i]`` is layer i's attention, (B, H, R, C) float32.

    Of a model that looks at the image through cross-attention, only those layers are recorded.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    layers: dict[int, torch.Tensor] = field(default_factory=dict)

    def stacked(self) -> torch.Tensor:
        """All layers up to the last recorded one, (B, L, H, R, C); NaN for one that was not recorded.

        Layers of different head counts cannot be stacked.
        """
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
    name = f"fivl_probe_{uuid.uuid4().hex}"
    AttentionInterface.register(name, _recording(recorded, model.config))
    AttentionMaskInterface.register(name, sdpa_mask)
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
    looking = set(config.get_text_config().cross_attention_layers) if looks_across(config) else None

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
        if looking is None or layer in looking:
            recorded.layers[layer] = attention_rows(
                query, key, attention_mask, scale, recorded.rows, recorded.columns, softcap=softcap
            )
        if softcap is not None:
            return _capped_attention(query, key, value, attention_mask, scale, softcap), None
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
) -> torch.Tensor:
    """Softmax attention of chosen rows to chosen columns, in float32.

    Args:
        query: (B, H, T, D).
        key: (B, K, S, D); K divides H (grouped-query attention); S = T but for cross-attention.
        attention_mask: (B, 1, T, S) bool (True attends) or additive; None is plain causal attention.
        rows, columns: (B, R), (B, C) positions.
        softcap: scores are limited to ± this by a tanh (Gemma 2).

    Returns:
        (B, H, R, C).
    """
    batch, heads, _, size = query.shape
    groups, length = key.shape[1], key.shape[2]
    wanted = rows.shape[1]
    chosen = query.gather(2, rows[:, None, :, None].expand(-1, heads, -1, size))
    folded = chosen.reshape(batch, groups, heads // groups * wanted, size)
    scores = (folded @ key.transpose(-1, -2)).float() * scaling
    scores = _capped(scores.view(batch, heads, wanted, length), softcap)
    if attention_mask is None:
        hidden = torch.arange(length, device=rows.device) > rows[..., None]
        scores = scores.masked_fill(hidden[:, None], -torch.inf)
    else:
        mask = attention_mask.expand(batch, -1, -1, -1)
        index = rows[:, None, :, None].expand(-1, mask.shape[1], -1, length)
        mask = mask[..., :length].gather(2, index)
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()
    probabilities = scores.softmax(dim=-1)
    return probabilities.gather(3, columns[:, None, None, :].expand(-1, heads, wanted, -1))


def _capped(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def _capped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    softcap: float,
) -> torch.Tensor:
    """The attention output with capped scores, which SDPA cannot compute, some queries at a time: (B, T, H, D)."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    length = key.shape[2]
    outputs = []
    for start in range(0, query.shape[2], _QUERIES):
        part = query[:, :, start : start + _QUERIES]
        scores = _capped((part @ key.transpose(-1, -2)).float() * scaling, softcap)
        if attention_mask is None:
            rows = torch.arange(start, start + part.shape[2], device=query.device)
            scores = scores.masked_fill(torch.arange(length, device=query.device) > rows[:, None], -torch.inf)
        else:
            mask = attention_mask[:, :, start : start + _QUERIES, :length]
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()
        outputs.append(scores.softmax(dim=-1).to(value.dtype) @ value)
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()
