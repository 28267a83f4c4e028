"""Token boxes of a model family nobody has described: asked of a small random model of the same class.

Grey ramps through the processor give every element of ``pixel_values`` its source coordinates. In a model whose
attention sees only itself, gradients of the embeddings that enter the language model say which visual token an element
feeds: with s_k a projection of token k, grad(Σ k · s_k) / grad(Σ s_k) is the token's index. Merging, shuffling, window
order and tiles all fall out. An element that feeds several tokens (interpolated features) gives no whole number; the
tokens are then asked in groups, every second, third, ... one, until each element feeds at most one of a group.
"""

import json
from collections.abc import Mapping
from math import ceil, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.utils import logging

from fivl_hf.geometry.axes import Boxes
from fivl_hf.geometry.twin import SEES_TOO_MUCH, small_twin, unprobed
from fivl_hf.models import image_token_id, uses_cross_attention

__all__ = ["element_coordinates", "element_tokens", "probed_boxes"]

logger = logging.get_logger(__name__)

_DARK, _LIGHT = 64, 192
_SLOPE = 2  # grey levels a pixel; a ramp is (_LIGHT - _DARK) / _SLOPE pixels wide
_GROUPS = (1, 2, 3, 5, 7, 11, 13)
_OTHER = 0  # in the small model's vocabulary, every token that is not special
_told: set[str] = set()
Pairs = tuple[NDArray[np.intp], NDArray[np.intp], int]
_pairs: dict[tuple[Any, ...], tuple[Any, Pairs]] = {}
_PAIRS_KEPT = 16  # a few MB each


def probed_boxes(model_config: Any, processor: Any, image_size: tuple[int, int], *, images: int = 1) -> Boxes:
    """Return boxes of one image's visual tokens, found by probing; see :func:`fivl_hf.geometry.token_boxes`.

    Args:
        model_config: config of a class that ``AutoModelForImageTextToText`` knows. Its model is made with one or two
            layers, random weights and float64.
        images: how many images the sample has, all of this size; the boxes are those of the first.

    Raises:
        UnknownProcessorError: no such class, no visual tokens in the sequence, no way from the pixels to them, or
            tokens that each see everything (perceivers, Q-Formers).
    """
    name = type(processor).__name__
    config_class: Any = type(model_config)
    token_id = image_token_id(model_config)
    if token_id < 0 and not uses_cross_attention(model_config):
        raise unprobed(name, f"{config_class.__name__} names no visual tokens in the sequence")
    model, ids = small_twin(config_class, json.dumps(model_config.to_dict(), sort_keys=True, default=str))
    width, height = image_size
    inputs = _processed(processor, np.full((height, width), _DARK, np.uint8), images)
    if "pixel_values" not in inputs:
        raise unprobed(name, f"it gives no pixel_values, but {', '.join(inputs)}")
    inputs["input_ids"] = inputs["input_ids"].clone().apply_(lambda token: ids.get(token, _OTHER))
    elements, owners, count = _known_tokens(model, inputs, ids.get(token_id, -1))
    count //= images
    boxes = np.full((count, 4), np.nan)
    # A merged or interpolated token has many elements: its box is the interval that they cover.
    for axis, size in enumerate(image_size):
        place = element_coordinates(processor, image_size, axis, images)[elements]
        low, high = _intervals(place, owners, count)
        boxes[:, axis], boxes[:, axis + 2] = low.clip(0, size), high.clip(0, size)
    boxes[np.isnan(boxes).any(axis=1)] = np.nan
    _tell(name, boxes, image_size)
    return boxes


def _known_tokens(model: Any, inputs: dict[str, Any], token_id: int) -> Pairs:
    """:func:`element_tokens`, kept for inputs that differ in their pixels alone: one pass for all images of a grid."""
    others = {
        name: value.numpy().tobytes() if torch.is_tensor(value) else repr(value)
        for name, value in inputs.items()
        if name != "pixel_values"
    }
    key = (id(model), tuple(inputs["pixel_values"].shape), tuple(sorted(others.items())))
    if key not in _pairs:
        while len(_pairs) > _PAIRS_KEPT:
            _pairs.pop(next(iter(_pairs)))
        # The model is held, too, so that another does not get its id.
        _pairs[key] = (model, element_tokens(model, inputs, token_id))
    return _pairs[key][1]


def element_tokens(model: Any, inputs: Mapping[str, Any], token_id: int) -> Pairs:
    """Find which elements of ``pixel_values`` (flattened) feed which visual tokens.

    Args:
        model: as :func:`small_twin` makes it: float64, attention to itself alone.
        inputs: what its forward takes.
        token_id: of the visual tokens in ``input_ids``.

    Raises:
        UnknownProcessorError: no element feeds a token, or elements feed too many.
    """
    pixels = inputs["pixel_values"].double().requires_grad_(True)
    visual = _visual_embeddings(model, {**inputs, "pixel_values": pixels}, token_id)
    generator = torch.Generator().manual_seed(0)
    projected = visual @ torch.randn(visual.shape[1], dtype=visual.dtype, generator=generator)
    name = type(model).__name__
    if not projected.requires_grad:
        raise unprobed(name, "its visual tokens do not depend on pixel_values")
    for groups in _GROUPS:
        found = [_pairs_of_group(projected, pixels, slice(first, None, groups)) for first in range(groups)]
        if all(pair is not None for pair in found):
            elements, owners = zip(*(pair for pair in found if pair is not None), strict=True)
            if not sum(map(len, elements)):
                break
            return np.concatenate(elements), np.concatenate(owners), len(visual)
    raise unprobed(name, f"{SEES_TOO_MUCH}, or its attention cannot be replaced")


def _pairs_of_group(
    projected: torch.Tensor, pixels: torch.Tensor, group: slice
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Return pairs of a part of the tokens; None where an element feeds more than one of them."""
    # The quotient of the two gradients is the token's number, exactly so only in exact arithmetic: norms that compute
    # in float32 leave an error of some 1e-7 of it, too much to round a number of thousands after the square below is
    # taken. A number of two digits to the base sqrt(tokens) keeps both digits small.
    base = ceil(sqrt(len(projected)))
    index = torch.arange(len(projected), dtype=projected.dtype)[group]

    def gradient(weights: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad((weights * projected[group]).sum(), pixels, retain_graph=True)[0].reshape(-1)

    plain = gradient(torch.ones_like(index))
    # Not zero but small: what an element feeds by way of rounding alone.
    feeds = plain.abs() > 1e-3 * plain.abs().max()
    token = torch.zeros(int(feeds.sum()), dtype=torch.long)
    for digit, worth in ((index // base, base), (index % base, 1)):
        mean, square = (gradient(digit**power)[feeds] / plain[feeds] for power in (1, 2))
        whole = mean.round()
        # An element that feeds several tokens gives the mean of their numbers, which may be whole by chance; the mean
        # of the squares is the square of the mean only for a single token.
        alone = ((mean - whole).abs() < 0.05) & ((square - whole**2).abs() < 0.05 * (1 + whole**2))
        if not bool(alone.all()):
            return None
        token += worth * whole.long()
    return torch.nonzero(feeds).flatten().numpy(), token.numpy()


class _CaughtError(Exception):
    """Ends a forward pass once the embeddings are known."""


def _visual_embeddings(model: Any, inputs: Mapping[str, Any], token_id: int) -> torch.Tensor:
    """(tokens, D): what enters the language model at visual tokens, or what it looks at through cross-attention."""
    caught = {}

    def catch(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        caught.update(kwargs)
        raise _CaughtError

    # The decoder itself is not needed, and would be the slowest part.
    hook = model.get_decoder().register_forward_pre_hook(catch, with_kwargs=True)
    try:
        model(**inputs)
    except _CaughtError:
        pass
    finally:
        hook.remove()
    across = caught.get("cross_attention_states")
    return across.flatten(0, 1) if across is not None else caught["inputs_embeds"][inputs["input_ids"] == token_id]


def element_coordinates(processor: Any, image_size: tuple[int, int], axis: int, images: int = 1) -> NDArray[np.float64]:
    """Find the source x (axis 0) or y (axis 1) of the first image that each element of ``pixel_values`` sees.

    Returns:
        (elements,) float64 in pixels; NaN for elements that see padding or another image.
    """
    width, height = image_size
    place = np.arange(width)[None] if axis == 0 else np.arange(height)[:, None]
    coordinate = np.broadcast_to(place + 0.5, (height, width))

    def elements(grey: NDArray[Any]) -> NDArray[np.float64]:
        pixels = _processed(processor, grey.astype(np.uint8), images)["pixel_values"]
        return pixels.double().numpy().reshape(-1)

    dark = elements(np.full((height, width), _DARK))
    span = elements(np.full((height, width), _LIGHT)) - dark
    # Padding has no span; an element at its border, interpolated with it, has less than a whole one.
    visible = span > 0.5 * span.max()
    # A ramp over the whole image would have less than one grey level a pixel. Several short ones, one behind the other,
    # add up: each is dark before its part and light behind it.
    run = (_LIGHT - _DARK) // _SLOPE
    total = np.zeros_like(span)
    for start in range(0, image_size[axis], run):
        ramp = _DARK + np.clip((coordinate - start) * _SLOPE, 0, _LIGHT - _DARK)
        total += (elements(ramp) - dark) / np.where(visible, span, 1) * run
    return np.where(visible, total, np.nan)


def _processed(processor: Any, grey: NDArray[np.uint8], images: int) -> dict[str, Any]:
    """Return what the processor makes of an image, followed by dark ones of its size."""
    dark = np.full_like(grey, _DARK)
    rendered = [Image.fromarray(grey).convert("RGB")] + [Image.fromarray(dark).convert("RGB")] * (images - 1)
    content = [{"type": "image"}] * images + [{"type": "text", "text": "a"}]
    if getattr(processor, "chat_template", None):
        text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    else:
        text = processor.image_token * images + "a"
    return dict(processor(text=[text], images=[rendered], return_tensors="pt"))


def _intervals(
    place: NDArray[np.float64], owners: NDArray[np.intp], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per token the interval that its elements cover: mean ± sqrt(3 · variance + step² / 4)."""
    # Elements spread evenly over [a, b] have the variance (b - a)² / 12, so half the length is sqrt(3 · variance). The
    # step between neighbours is added in quadrature: n discrete places reach half a step beyond the outer ones.
    seen = np.isfinite(place)
    place, owners = place[seen], owners[seen]
    number = np.bincount(owners, minlength=count).astype(np.float64)
    number[number == 0] = np.nan
    mean = np.bincount(owners, place, minlength=count) / number
    variance = np.bincount(owners, (place - mean[owners]) ** 2, minlength=count) / number
    different = np.unique(np.stack([owners, np.round(place, 2)]), axis=1)[0].astype(np.intp)
    steps = np.bincount(different, minlength=count) - 1
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, owners, place)
    np.maximum.at(high, owners, place)
    step = np.divide(high - low, steps, out=np.zeros(count), where=steps > 0)
    half = np.sqrt(3 * variance + step**2 / 4)
    return mean - half, mean + half


def _tell(name: str, boxes: Boxes, image_size: tuple[int, int]) -> None:
    """Warn once per processor, with the first image as an example; of others at level INFO."""
    sees = np.isfinite(boxes[:, 0])
    width, height = np.median(boxes[sees, 2:] - boxes[sees, :2], axis=0) if sees.any() else (0.0, 0.0)
    found = (
        f"An image of {image_size[0]}x{image_size[1]} pixels has {len(boxes)} visual tokens, {int((~sees).sum())} of "
        f"which see nothing; the others see {width:.0f}x{height:.0f} pixels each."
    )
    if name in _told:
        logger.info(f"{name}: {found}")
        return
    _told.add(name)
    logger.warning(
        f"The token boxes of {name} are not known to fivl_hf; they are probed on a small random model of its class, "
        f"which takes seconds per image size. {found} They are right to about a tenth of a pixel: with "
        "vision_min_coverage=0.05 slivers do not count. Look at the pictures of `fivl explain`."
    )
