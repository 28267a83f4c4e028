"""Images as rows store them, and rows with one value changed."""

import copy
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image


def encoded(image: Image.Image, format: str = "PNG") -> dict[str, Any]:
    """An image as a dataset stores it."""
    buffer = io.BytesIO()
    image.save(buffer, format=format)
    return {"bytes": buffer.getvalue(), "path": None}


def change(row: Mapping[str, Any], path: Sequence[Any], value: Any) -> dict[str, Any]:
    """The row with another value at a path of keys and places."""
    changed = dict(copy.deepcopy(row))
    target: Any = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return changed
