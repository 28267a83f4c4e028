"""Requests to grounders, images without meaning and square masks."""

import numpy as np
from PIL import Image

from fivl_hf.augment.grounding import GroundingRequest
from fivl_hf.augment.inputs.conversations import StoredImage
from fivl_hf.images import image_bytes


def square(x0: int, y0: int, x1: int, y1: int, size: int = 20) -> np.ndarray:
    """A mask that is set from (x0, y0) to (x1, y1)."""
    mask = np.zeros((size, size), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def request(
    id: str, image: Image.Image | tuple[Image.Image, ...], *expressions: str, name: str = "a.jpg"
) -> GroundingRequest:
    """Expressions to find in one image, or in several."""
    images = image if isinstance(image, tuple) else (image,)
    sources = tuple(StoredImage(image_bytes(each), name) for each in images)
    return GroundingRequest(id, images, sources, expressions)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))
