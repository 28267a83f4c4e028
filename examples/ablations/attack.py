"""Projected gradient descent on pixels (Madry et al., 2018), through the model's own preprocessing.

The images that come out are ordinary 8-bit ones, which the processor takes as any other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from fivl_hf.explain.effects import answer_tokens
from fivl_hf.explain.samples import prepare_batch, readable
from fivl_hf.images import image_bytes, open_rgb

__all__ = ["EPSILONS", "attacked"]

EPSILONS = (2, 4, 8, 16)  # of 255
STEPS = 10
BATCH = 64
Row = dict[str, Any]


def attacked(model: Any, processor: Any, rows: Sequence[Row], epsilon: int) -> list[Row]:
    """Return the rows with images that make their reference answers as unlikely as 10 steps can.

    Args:
        model: a model whose processor keeps the images' size, as for scenes.
        epsilon: the most that any channel of a pixel changes, of 255.
    """
    torch.manual_seed(0)
    result: list[Row] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        result += [
            row | {"images": [{"bytes": image_bytes(Image.fromarray(pixels)), "path": None}]}
            for row, pixels in zip(part, _attack(model, processor, part, epsilon), strict=True)
        ]
    return result


def _attack(model: Any, processor: Any, rows: Sequence[Row], epsilon: int) -> np.ndarray:
    """Return (B, S, S, 3) bytes."""
    samples = prepare_batch(model, processor, [readable(row) for row in rows])
    inputs = samples[0].inputs
    labels = torch.full_like(inputs["input_ids"], -100)
    for sample in samples:
        places = torch.from_numpy(answer_tokens(sample))
        labels[sample.place, places] = inputs["input_ids"][sample.place, places]
    images = torch.from_numpy(np.stack([np.asarray(open_rgb(row["images"][0])) for row in rows])).permute(0, 3, 1, 2)
    clean = images.float()
    mean, std = (
        255 * torch.tensor(getattr(processor.image_processor, name)).view(1, 3, 1, 1)
        for name in ("image_mean", "image_std")
    )
    normalized = (clean - mean) / std
    if not torch.allclose(normalized, inputs["pixel_values"], atol=1e-3):
        raise ValueError("the processor resizes or crops these images: attack images that it takes as they are")
    pixels = (clean + torch.empty_like(clean).uniform_(-epsilon, epsilon)).clamp(0, 255)
    for _ in range(STEPS):
        pixels.requires_grad_(True)
        loss = model(**{**inputs, "pixel_values": (pixels - mean) / std}, labels=labels).loss
        (gradient,) = torch.autograd.grad(loss, pixels)
        with torch.no_grad():
            pixels = pixels + 2.5 * epsilon / STEPS * gradient.sign()
            pixels = torch.minimum(torch.maximum(pixels, clean - epsilon), clean + epsilon).clamp(0, 255)
    return pixels.detach().round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
