"""Small rows to draw."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from fivl_hf.images import as_encoded, image_bytes
from fivl_hf.masks import encode_mask


def expression(text: str, start: int, turn: int = 0, image: int = 0) -> dict[str, Any]:
    """A key expression that begins at a character of its answer; -1: grounded through the question."""
    end = start + len(text) if start >= 0 else -1
    fields = {"turn": turn, "text": text, "start": start, "end": end, "keywords": [text], "image": image}
    return {**fields, "boxes": [[0.0, 0.0, 4.0, 4.0]], "score": None}


def row(expressions: Sequence[dict[str, Any]], masks: Sequence[np.ndarray], images: int = 1) -> dict[str, Any]:
    """A row of two turns about white images of 8 × 8 pixels."""
    image = as_encoded(image_bytes(Image.new("RGB", (8, 8), "white")))
    messages = [
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": "A car and a dog."},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes"},
    ]
    return {
        "id": "a",
        "images": [image] * images,
        "messages": messages,
        "key_expressions": expressions,
        "masks": [as_encoded(encode_mask(mask)) for mask in masks],
        "source": "s",
    }


def part_mask(count: int) -> np.ndarray:
    """An 8 × 8 mask of the first lines."""
    mask = np.zeros((8, 8), dtype=bool)
    mask[:count] = True
    return mask
