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

__all__ = ["AttentionRows", "record_attention"]


@dataclass
class AttentionRows:
    """What the probe records: ``layers[i]`` is layer i's attention, (B, H, R, C) float32."""

    rows: torch.Tensor
    columns: torch.Tensor
    layers: dict[int, torch.Tensor] = field(default_factory=dict)

    def stacked(self) -> torch.Tensor:
        """All layers, (B, L, H, R, C). Layers of different head counts cannot be stacked."""
        return torch.stack([self.layers[i] for i in sorted(self.layers)], dim=1)


@contextmanager
def record_attention(model: Any, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[AttentionRows]:
    """While open, every forward pass of ``model`` records softmax rows of its language model's attention.

    The pass itself is ordinary SDPA; gradients flow through the recorded rows. The row that *produces* token t is
    t − 1. The model's own attention implementation is put back on leaving, also after an error.

    Args:
        model: a transformers vision-language model with pluggable attention.
        rows: (B, R) query positions.
        columns: (B, C) key positions, such as those of the image tokens.

    Raises:
        ValueError: the model cannot swap its attention implementation, or caps or sinks its attention scores.
    """
    recorded = AttentionRows(rows, columns)
    name = f"fivl_probe_{uuid.uuid4().hex}"
    AttentionInterface.register(name, _recording(recorded))
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


def _recording(recorded: AttentionRows) -> Any:
    def forward(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        for name in ("softcap", "s_aux"):
            if kwargs.get(name) is not None:
                raise ValueError(f"attention with {name} ({type(module).__name__}) cannot be recorded")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        recorded.layers[int(module.layer_idx)] = attention_rows(  # type: ignore[arg-type]
            query, key, attention_mask, scale, recorded.rows, recorded.columns
        )
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)

    return forward


def attention_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    rows: torch.Tensor,
    columns: torch.Tensor,
) -> torch.Tensor:
    """Softmax attention of chosen rows to chosen columns, in float32.

    Args:
        query: (B, H, T, D).
        key: (B, K, T, D); K divides H (grouped-query attention).
        attention_mask: (B, 1, T, T) bool (True attends) or additive; None is plain causal attention.
        rows, columns: (B, R), (B, C) positions.

    Returns:
        (B, H, R, C).
    """
    batch, heads, _, size = query.shape
    groups, length = key.shape[1], key.shape[2]
    wanted = rows.shape[1]
    chosen = query.gather(2, rows[:, None, :, None].expand(-1, heads, -1, size))
    folded = chosen.reshape(batch, groups, heads // groups * wanted, size)
    scores = (folded @ key.transpose(-1, -2)).float() * scaling
    scores = scores.view(batch, heads, wanted, length)
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
