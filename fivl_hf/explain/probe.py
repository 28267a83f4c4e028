"""The attention probe: exact attention of a few rows to a few columns, without any T × T tensor.

Shapes: B batch, H heads, K heads of keys, T tokens, S keys, R rows, C columns, G groups of rows, D head size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from fivl_hf.explain.attention import Attention, is_causal, masked, replaced_attention, soft_capped
from fivl_hf.models import uses_cross_attention

__all__ = ["AttentionRows", "attention_rows", "record_attention"]


@dataclass
class AttentionRows:
    """The recorded attention: ``layers[i]`` is layer i's attention, (B, H, R, C) float32, or (B, H, G, C).

    Of a model that looks at the image through cross-attention, only those layers are recorded.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    groups: torch.Tensor | None = None
    layers: dict[int, torch.Tensor] = field(default_factory=dict)

    def stacked(self) -> torch.Tensor:
        """Return all layers up to the last recorded one, (B, L, H, R or G, C); NaN for one that was not recorded.

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
def record_attention(
    model: Any, rows: torch.Tensor, columns: torch.Tensor, groups: torch.Tensor | None = None
) -> Iterator[AttentionRows]:
    """While open, every forward pass of ``model`` records softmax rows of its language model's attention.

    The pass itself is ordinary SDPA; gradients flow through the recorded rows. The row that *produces* token t is
    t − 1. See :func:`fivl_hf.explain.attention.replaced_attention`.

    Args:
        model: a transformers vision-language model with pluggable attention.
        rows: (B, R) query positions.
        columns: (B, C) key positions, such as those of the image tokens; of the cross-attention's keys where the model
            has such layers.
        groups: (B, G, R) weights of the rows: sums of rows are recorded instead of the rows, which takes less memory.

    Raises:
        ValueError: the model cannot swap its attention implementation, or has learned attention sinks.
    """
    recorded = AttentionRows(rows, columns, groups)
    with replaced_attention(model, partial(_recording, recorded, model.config)):
        yield recorded


def _recording(recorded: AttentionRows, config: Any, attention: Attention) -> Attention:
    crossing = uses_cross_attention(config)

    def forward(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        causal = is_causal(config, layer)
        if not (crossing and causal):  # the layers that see the image
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            rows, columns, softcap = recorded.rows, recorded.columns, kwargs.get("softcap")
            found = attention_rows(query, key, attention_mask, scale, rows, columns, softcap, causal)
            recorded.layers[layer] = found if recorded.groups is None else recorded.groups[:, None] @ found
        return attention(module, query, key, value, attention_mask, scaling=scaling, **kwargs)

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
    key_heads, length = key.shape[1], key.shape[2]
    wanted = rows.shape[1]
    # Grouped queries: the heads that share a key are folded into its rows, so that no key is repeated in memory.
    chosen = query.gather(2, rows[:, None, :, None].expand(-1, heads, -1, size))
    folded = chosen.reshape(batch, key_heads, heads // key_heads * wanted, size)
    scores = (folded @ key.transpose(-1, -2)).float() * scaling
    scores = soft_capped(scores.view(batch, heads, wanted, length), softcap)
    mask = attention_mask
    if mask is not None:
        mask = mask.expand(batch, -1, -1, -1)[..., :length]
        mask = mask.gather(2, rows[:, None, :, None].expand(-1, mask.shape[1], -1, length))
    scores = masked(scores, mask, rows[:, None, :] if causal else None)
    probabilities = scores.softmax(dim=-1)
    return probabilities.gather(3, columns[:, None, None, :].expand(-1, heads, wanted, -1))
