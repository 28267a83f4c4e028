"""Which function knows the token boxes of which processor."""

from collections.abc import Callable
from typing import Any

from fivl_hf.geometry.axes import Boxes

__all__ = ["UnknownProcessorError", "register_token_boxes", "token_boxes"]

BoxFunction = Callable[[Any, tuple[int, int]], Boxes]

_REGISTRY: dict[str, BoxFunction] = {}


class UnknownProcessorError(ValueError):
    """No token boxes are known for a processor."""


def register_token_boxes(processor_class: str, function: BoxFunction) -> None:
    """Teach :func:`token_boxes` a processor class.

    Args:
        processor_class: its class name, such as ``"LlavaProcessor"``.
        function: takes (processor, (width, height)) and returns (tokens, 4), as :func:`token_boxes` does.
    """
    _REGISTRY[processor_class] = function


def token_boxes(processor: Any, image_size: tuple[int, int]) -> Boxes:
    """The source-image box that each visual token of one image sees.

    Args:
        processor: the model's processor (image processor and tokenizer together).
        image_size: (width, height) of the source image in pixels.

    Returns:
        float64 (tokens, 4), in the order of the image placeholders in ``input_ids``: x0, y0, x1, y1 in source
        pixels, clipped to the image; NaN for tokens that see none of it (padding, class token).

    Raises:
        UnknownProcessorError: naming the class and how to register it.
        ValueError: an image size that is not two positive numbers.
    """
    width, height = image_size
    if width < 1 or height < 1:
        raise ValueError(f"image_size is (width, height) in pixels, got {image_size}")
    name = type(processor).__name__
    if name not in _REGISTRY:
        raise UnknownProcessorError(
            f"token boxes are not known for {name}. Known: {', '.join(sorted(_REGISTRY))}. Register yours with "
            f"fivl_hf.geometry.register_token_boxes({name!r}, function), where function(processor, (width, height)) "
            "returns the (tokens, 4) source-pixel boxes of one image's visual tokens."
        )
    return _REGISTRY[name](processor, (int(width), int(height)))
