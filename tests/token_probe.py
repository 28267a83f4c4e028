"""An oracle for token boxes: which pixels each visual token of a real model sees, found by asking the model.

Grey ramps through the image processor give every element of ``pixel_values`` its source coordinates. In a model whose
attention only sees itself, the gradient of the embeddings that enter the language model says which visual token an
element belongs to: grad(Σ k · s_k) / grad(Σ s_k) is the token's index, with s_k a projection of token k.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask


def _itself(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **_: Any) -> tuple[Any, None]:
    groups = query.shape[1] // value.shape[1]
    return value.repeat_interleave(groups, 1).transpose(1, 2).contiguous(), None


AttentionInterface.register("itself", _itself)
AttentionMaskInterface.register("itself", sdpa_mask)


class _EnoughError(Exception):
    pass


def element_tokens(model: Any, inputs: dict[str, Any], token_id: int) -> np.ndarray:
    """The visual token that each element of ``pixel_values`` feeds, NaN for elements that feed none."""
    torch.manual_seed(0)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.05 + (1.0 if parameter.ndim == 1 else 0.0))
    model.set_attn_implementation("itself")
    pixels = inputs["pixel_values"].double().requires_grad_(True)
    caught = {}

    def catch(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        caught["embeds"] = kwargs["inputs_embeds"]
        raise _EnoughError

    hook = model.get_decoder().register_forward_pre_hook(catch, with_kwargs=True)
    try:
        model(**{**inputs, "pixel_values": pixels})
    except _EnoughError:
        pass
    finally:
        hook.remove()
    visual = caught["embeds"][inputs["input_ids"] == token_id]
    projected = visual @ torch.randn(visual.shape[1], dtype=visual.dtype)
    index = torch.arange(len(projected), dtype=visual.dtype)
    (plain,) = torch.autograd.grad(projected.sum(), pixels, retain_graph=True)
    (weighted,) = torch.autograd.grad((index * projected).sum(), pixels)
    found = weighted / plain
    near = (found - found.round()).abs() < 1e-3
    feeds = plain.abs() > 1e-12 * plain.abs().max()
    return torch.where(near & feeds, found.round(), torch.nan).numpy()


def element_coordinates(image_processor: Any, size: tuple[int, int], axis: int) -> np.ndarray:
    """The source x (axis 0) or y (axis 1) that each element of ``pixel_values`` sees, NaN for padding."""
    width, height = size

    def processed(grey: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(grey).convert("RGB")
        return np.asarray(image_processor(picture, return_tensors="np")["pixel_values"], dtype=np.float64)

    dark = processed(np.full((height, width), 64, np.uint8))
    span = processed(np.full((height, width), 192, np.uint8)) - dark
    visible = span > 0.5 * span.max()
    place = np.arange(width)[None] if axis == 0 else np.arange(height)[:, None]
    coordinate = np.broadcast_to(place + 0.5, (height, width))
    total = np.zeros_like(span)
    for start in range(0, size[axis], 64):
        ramp = 64 + np.clip((coordinate - start) * 2, 0, 128).astype(np.uint8)
        total += (processed(ramp) - dark) / np.where(visible, span, 1) * 64
    return np.where(visible, total, np.nan)
