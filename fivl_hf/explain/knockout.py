"""Knock-out of attention heads: does what a head looks at matter for what the model says?

Shapes: B batch, H heads, T queries, S keys, D head size.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from types import SimpleNamespace
from typing import Any, Literal

import torch

from fivl_hf.explain.attention import Attention, is_causal, replaced_attention
from fivl_hf.models import image_token_id, without_adapter

__all__ = ["Head", "How", "knock_out", "mean_outputs", "require_heads"]

Head = tuple[int, int]
"""(layer, head), counted from 0."""

How = Literal["zero", "mean", "edges"]


@contextmanager
def knock_out(
    model: Any,
    heads: Iterable[Head],
    how: How = "zero",
    *,
    means: Mapping[int, torch.Tensor] | None = None,
) -> Iterator[None]:
    """While open, some attention heads of the language model are without effect. Nothing of it is left behind.

    It works where the attention goes through transformers' attention interface, for grouped queries and cross-attention
    to the image, too, and while the model generates. Contexts may be nested, also with
    :func:`fivl_hf.explain.probe.record_attention`.

    Args:
        model: a transformers vision-language model, or an adapter of one.
        heads: (layer, head) of each.
        how: "zero": the head's output, before the output projection, is 0; "mean": it is the head's mean, see
            ``means``; "edges": text tokens do not attend to the image in these heads, and the attention to the rest is
            renormalised (of cross-attention nothing is left: 0).
        means: (H, D) of each layer, by :func:`mean_outputs`; needed for "mean".

    Raises:
        ValueError: a head that the model does not have, an unknown ``how``, means that are missing, or attention that
            does not go through the interface.
    """
    model = without_adapter(model)
    chosen = _by_layer(model, heads)
    if how not in ("zero", "mean", "edges"):
        raise ValueError(f"how must be zero, mean or edges, got {how!r}")
    if how == "mean" and (missing := [layer for layer in chosen if layer not in (means or {})]):
        raise ValueError(f"no mean output of layer {missing[0]} is given: see mean_outputs")
    keys = _ImageKeys(model)
    reached: set[int] = set()
    make = {
        "zero": partial(_replacing, chosen, {}, reached),
        "mean": partial(_replacing, chosen, means or {}, reached),
        "edges": partial(_cutting, chosen, keys, reached),
    }[how]
    hook = model.base_model.register_forward_pre_hook(keys.see, with_kwargs=True)
    try:
        with replaced_attention(model, make):
            yield
    finally:
        hook.remove()
    if keys.passes and (unreached := sorted(set(chosen) - reached)):
        raise ValueError(
            f"layer {unreached[0]} was not knocked out: its attention does not go through transformers' attention "
            "interface (AttentionInterface)"
        )


@torch.inference_mode()
def mean_outputs(model: Any, inputs: Iterable[Mapping[str, Any]]) -> dict[int, torch.Tensor]:
    """Return the mean output of every head, before the output projection, over the tokens of some inputs.

    Args:
        inputs: of the model's forward, on its device; tokens that ``attention_mask`` leaves out do not count.

    Returns:
        For each layer (H, D) float32.
    """
    model = without_adapter(model)
    sums: dict[int, torch.Tensor] = {}
    count = 0

    def summing(attention: Attention) -> Attention:
        def forward(module: torch.nn.Module, *arguments: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
            output, nothing = attention(module, *arguments, **kwargs)
            layer = int(module.layer_idx)  # type: ignore[arg-type]
            total = torch.where(is_real[..., None, None], output.float(), 0).sum(dim=(0, 1))
            sums[layer] = sums.get(layer, 0) + total
            return output, nothing

        return forward

    with replaced_attention(model, summing):
        for each in inputs:
            mask = each.get("attention_mask")
            is_real = torch.ones_like(each["input_ids"]).bool() if mask is None else mask.bool()
            model.base_model(**each, use_cache=False)
            count += int(is_real.sum())
    return {layer: total / count for layer, total in sums.items()}


def require_heads(model: Any, heads: Iterable[Head]) -> None:
    """Check that a model has some heads; raises ValueError if not."""
    text = model.config.get_text_config()
    for each in heads:
        if not (isinstance(each, Sequence) and len(each) == 2 and all(isinstance(place, Integral) for place in each)):
            raise ValueError(f"a head is (layer, head), got {each!r}")
        layer, head = each
        if not (0 <= layer < text.num_hidden_layers and 0 <= head < text.num_attention_heads):
            raise ValueError(
                f"layer {layer}, head {head}: the model has {text.num_hidden_layers} layers of "
                f"{text.num_attention_heads} heads, counted from 0"
            )


def _by_layer(model: Any, heads: Iterable[Head]) -> dict[int, list[int]]:
    """Return the heads of each layer; raises ValueError for one that does not exist."""
    listed = list(heads)
    require_heads(model, listed)
    chosen: dict[int, list[int]] = {}
    for layer, head in listed:
        chosen.setdefault(layer, []).append(head)
    return {layer: sorted(set(found)) for layer, found in chosen.items()}


class _ImageKeys:
    """Tracks which keys are visual tokens, also while an answer is generated token by token."""

    def __init__(self, model: Any) -> None:
        self.config = model.config
        self.passes = 0
        self._seen: torch.Tensor | None = None
        self._length = 0

    def see(self, _: Any, arguments: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Read the inputs of a forward pass."""
        self.passes += 1
        ids = kwargs.get("input_ids", arguments[0] if arguments else None)
        if ids is not None and ids.shape[1] > 1:
            self._seen, self._length = ids == image_token_id(self.config), ids.shape[1]
        elif ids is not None:  # One more token of an answer.
            self._length += 1

    def of(self, layer: int, batch: int, length: int) -> torch.Tensor:
        """(B, S) which keys of a layer are visual tokens."""
        if not is_causal(self.config, layer):
            return torch.ones(batch, length, dtype=torch.bool)
        if self._seen is None:
            raise ValueError("edges to the image are cut by input_ids, which were not given")
        so_far = torch.nn.functional.pad(self._seen, (0, max(self._length, length) - self._seen.shape[1]))
        # A sliding window keeps the last keys alone.
        return so_far[:, -length:] if length < self._length else so_far


def _replacing(
    chosen: Mapping[int, Collection[int]], means: Mapping[int, torch.Tensor], reached: set[int], attention: Attention
) -> Attention:
    """Put means, or 0 where there are none, in the place of heads' outputs."""

    def forward(module: torch.nn.Module, *arguments: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
        output, nothing = attention(module, *arguments, **kwargs)
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        if layer in chosen:
            reached.add(layer)
            heads = torch.tensor(list(chosen[layer]), device=output.device)
            output = output.clone()
            output[:, :, heads] = means[layer].to(output)[heads] if means else 0
        return output, nothing

    return forward


def _cutting(
    chosen: Mapping[int, Collection[int]], keys: _ImageKeys, reached: set[int], attention: Attention
) -> Attention:
    """Run the chosen heads again without the edges from image keys to text queries."""

    def forward(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *arguments: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        output, nothing = attention(module, query, key, value, attention_mask, *arguments, **kwargs)
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        if layer in chosen:
            reached.add(layer)
            heads = torch.tensor(list(chosen[layer]), device=output.device)
            # Each head with a key of its own: what is left of a group need not be one.
            own = heads // (query.shape[1] // key.shape[1])
            mask, empty = _cut_mask(query, key, attention_mask, keys, layer)
            again, _ = attention(
                _ungrouped(module), query[:, heads], key[:, own], value[:, own], mask, *arguments, **kwargs
            )
            output = output.clone()
            output[:, :, heads] = again.masked_fill(empty[:, :, None, None], 0)
        return output, nothing

    return forward


def _ungrouped(module: torch.nn.Module) -> Any:
    """Return what the attention function needs to know of a module whose heads have a key each."""
    known = {name: getattr(module, name) for name in ("layer_idx", "training", "is_causal") if hasattr(module, name)}
    return SimpleNamespace(**known, num_key_value_groups=1)


def _cut_mask(
    query: torch.Tensor, key: torch.Tensor, attention_mask: torch.Tensor | None, keys: _ImageKeys, layer: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mask (B, 1, T, S), True where a query may attend, and (B, T) which queries have nothing left."""
    batch, queries, length = query.shape[0], query.shape[2], key.shape[2]
    image = keys.of(layer, batch, length).to(query.device)
    causal = is_causal(keys.config, layer)
    places = torch.arange(length - queries, length, device=query.device)
    if attention_mask is None:
        allowed = torch.ones(batch, 1, queries, length, dtype=torch.bool, device=query.device)
        if causal:
            allowed &= torch.arange(length, device=query.device) <= places[:, None]
    else:
        given = attention_mask[..., -queries:, :length]
        allowed = (given if given.dtype == torch.bool else given >= 0).expand(batch, 1, -1, -1)
    is_text = ~image[:, places] if causal else torch.ones(batch, queries, dtype=torch.bool, device=query.device)
    allowed = allowed & ~(is_text[:, None, :, None] & image[:, None, None, :])
    empty = ~allowed.any(dim=-1)[:, 0]
    # Attention to nothing is NaN.
    return allowed | empty[:, None, :, None], empty
