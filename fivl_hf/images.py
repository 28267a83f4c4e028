"""Opening pictures from whatever form a dataset holds them in, with errors that say what is wrong."""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["ImageError", "image_bytes", "open_image"]


# Everything that Pillow's decoders are known to raise on bytes that are no picture.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, Image.DecompressionBombError)


class ImageError(ValueError):
    """Bytes or a path that hold no readable picture."""


def open_image(value: Any, *, decode: bool = True) -> Image.Image:
    """Open a picture given as a PIL image, bytes, a path, or ``datasets``' ``{"bytes", "path"}``.

    Args:
        decode: decode the pixels now, so that a truncated file is found here rather than later.

    Raises:
        ImageError: missing, not a picture, truncated, or over Pillow's decompression-bomb limit.
    """
    if isinstance(value, Image.Image):
        return value
    try:
        picture = Image.open(_file(value))
        if decode:
            picture.load()
    except ImageError:
        raise
    except _UNREADABLE as error:
        raise ImageError(f"an unreadable image ({error})") from error
    return picture


def image_bytes(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, format=format, **options)
    return buffer.getvalue()


def _file(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | bytearray):
        return io.BytesIO(value)
    if isinstance(value, str | Path):
        return value
    raise ImageError(f"{type(value).__name__} in place of an image")
