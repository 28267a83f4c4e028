"""Opening images from whatever form a dataset holds them in, with errors that say what is wrong."""

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image, ImageDraw, ImageOps

__all__ = [
    "PADDED_PATCHES",
    "PADDED_SIDE",
    "ImageError",
    "StoredSize",
    "as_encoded",
    "black_out",
    "data_url",
    "encoded_bytes",
    "image_bytes",
    "open_image",
    "open_rgb",
    "padded_square",
    "rgb",
    "stored_size",
    "thumbnail",
]


# What photographs and drawings come in, each with a decoder inside Pillow: EPS, for one, would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
# JPEG's largest side, and a little more than Pillow warns of.
_MAX_SIDE, _MAX_PIXELS = 65_535, 100_000_000
# Side in pixels, and patches along it, of the images that LLaVA-1.5 sees and the paper's masks were made of.
PADDED_SIDE, PADDED_PATCHES = 336, 24
# The mean colour of the images that CLIP was trained on.
_CLIP_MEAN = (122, 116, 104)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_BUFFER = re.compile(r"<_io\.BytesIO[^>]*>")
# Greys of modes that do not say how many of their bits are used.
_TOPS = (1.0, 255.0, 65535.0)


class ImageError(ValueError):
    """Bytes or a path that hold no readable image."""


def open_image(value: Any) -> Image.Image:
    """Open an image given as a PIL image, bytes, a path, or ``datasets``' ``{"bytes", "path"}``.

    The pixels are decoded now, so that a truncated file is found here rather than later. A camera's EXIF orientation
    is applied, as ``datasets`` does when it decodes: sizes and boxes are those of the upright image.

    Raises:
        ImageError: missing, not an image of a common format, truncated, or of more than 100 million pixels.
    """
    # Decoders raise all sorts of things on bytes that are not an image.
    try:
        if isinstance(value, Image.Image):
            value.load()
            return _upright(value)
        with Image.open(_file(value), formats=_formats()) as image:
            _check_size(image)
            image.load()
            return _upright(image)
    except ImageError:
        raise
    except Exception as error:
        raise _unreadable(error) from error


def open_rgb(value: Any) -> Image.Image:
    """Open an image, given as for :func:`open_image`, as every model, mask and person is shown it: :func:`rgb`.

    Raises:
        ImageError: as :func:`open_image` and :func:`rgb`.
    """
    return rgb(open_image(value))


@dataclass(frozen=True)
class StoredSize:
    """An image's size as it is stored, and how EXIF turns it to be shown."""

    stored: tuple[int, int]
    orientation: int = 1

    @property
    def shown(self) -> tuple[int, int]:
        """(width, height) of the upright image."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    def upright_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask (H, W) of the stored image, turned as the image is."""
        if self.orientation == 1:
            return mask
        return np.asarray(Image.fromarray(mask).transpose(_TURNS[self.orientation]))

    def upright_boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return boxes (N, 4) in pixels of the stored image, turned as the image is."""
        width, height = self.stored
        x, y = boxes[:, [0, 2]], boxes[:, [1, 3]]
        turned = {
            2: (width - x, y),
            3: (width - x, height - y),
            4: (x, height - y),
            5: (y, x),
            6: (height - y, x),
            7: (height - y, width - x),
            8: (y, width - x),
        }
        across, down = (np.sort(each, axis=1) for each in turned.get(self.orientation, (x, y)))
        return np.stack([across[:, 0], down[:, 0], across[:, 1], down[:, 1]], axis=1)


def stored_size(data: bytes) -> StoredSize:
    """Return the size and orientation of an encoded image, from its header alone.

    Raises:
        ImageError: not an image, or a larger one than is opened.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            _check_size(image)
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            return StoredSize(image.size, orientation if orientation in _TURNS else 1)
    except ImageError:
        raise
    except Exception as error:
        raise _unreadable(error) from error


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _check_size(image: Image.Image) -> None:
    """Refuse an image that would take too much memory, before it is decoded."""
    if max(image.size) > _MAX_SIDE or image.width * image.height > _MAX_PIXELS:
        raise ImageError(f"an image of {image.width}x{image.height} pixels is too large")


def _unreadable(error: Exception) -> ImageError:
    return ImageError(f"an unreadable image ({_BUFFER.sub('its bytes', str(error))})")


def _upright(image: Image.Image) -> Image.Image:
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB as a viewer shows it: 16-bit greys scaled to 8 bits, transparent parts over white.

    Greys of floats or of 32 bits count as from 0 to 1, 255 or 65535, whichever is the smallest that none exceeds.

    Raises:
        ImageError: greys that are not finite, or outside 0 to 65535.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """Return a copy of an image whose longer edge has at most ``side`` pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    return small


def _scaled(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("an image with greys that are not finite (NaN or infinity)")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if image.mode == "F":
        # Resampling and compression leave a few values beyond the range: 1.01 does not make white 255.
        low, high = _without_overshoot(values, low, high)
    tops = (65535.0,) if image.mode.startswith("I;16") else _TOPS[1:] if image.mode == "I" else _TOPS
    top = next((top for top in tops if high <= top), None)
    if low < 0 or top is None:
        raise ImageError(f"an image with greys from {low:g} to {high:g}; 0 to 65535 can be shown")
    return Image.fromarray((values * np.float32(255 / top)).clip(0, 255).astype(np.uint8)).convert("RGB")


def _without_overshoot(values: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    """Return the range of greys, rounded to the range of a mode where few of them leave it, by at most a tenth."""
    for top in _TOPS:
        beyond = ((values > top) | (values < 0)).mean()
        if low >= -0.1 * top and top < high <= 1.1 * top and beyond <= 0.01:
            return 0.0, top
    return (0.0, high) if -0.1 * high <= low and (values < 0).mean() <= 0.01 else (low, high)


def image_bytes(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def data_url(data: bytes, kind: str) -> str:
    """Return an encoded image of a kind such as "png" as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def encoded_bytes(value: Any) -> bytes:
    """Return the encoded bytes of an image in any form: as they are where there are any, PNG for a PIL image, as
    :func:`rgb` shows it where PNG does not hold its mode.

    Raises:
        ImageError: a path that cannot be read, not an image, or as :func:`rgb`.
    """
    if isinstance(value, Image.Image):
        image = open_image(value)
        return image_bytes(image if image.mode in _PNG_MODES else rgb(image))
    source = _file(value)
    try:
        return source.getvalue() if isinstance(source, io.BytesIO) else Path(source).read_bytes()
    except OSError as error:
        raise _unreadable(error) from error


def padded_square(image: Image.Image, side: int = PADDED_SIDE) -> Image.Image:
    """Return an RGB image as LLaVA-1.5 sees it: padded to a square with CLIP's mean colour, resized to ``side``."""
    longer = max(image.size)
    square = Image.new("RGB", (longer, longer), _CLIP_MEAN)
    square.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
    return square.resize((side, side), Image.Resampling.BICUBIC)


def as_encoded(value: Any) -> dict[str, Any]:
    """Return an image in any form as rows hold it: its bytes inside, so that ``datasets`` stores them unchanged.

    Raises:
        ImageError: as :func:`encoded_bytes`.
    """
    return {"bytes": encoded_bytes(value), "path": None}


def _file(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes | bytearray):
        if not value:
            raise ImageError("an empty file (0 bytes)")
        return io.BytesIO(value)
    if isinstance(value, str | Path):
        return value
    raise ImageError(f"{type(value).__name__} in place of an image")


def black_out(image: Image.Image, boxes: ArrayLike) -> Image.Image:
    """Return an RGB copy of the image in which every pixel that a box touches is black.

    Args:
        boxes: (N, 4) as (x0, y0, x1, y1) in pixels of the image.
    """
    masked = rgb(image)
    draw = ImageDraw.Draw(masked)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        draw.rectangle((int(np.floor(x0)), int(np.floor(y0)), int(np.ceil(x1)) - 1, int(np.ceil(y1)) - 1), fill=0)
    return masked
