"""The functions that know the token boxes, by the processor's class."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from fivl_hf.geometry.axes import Boxes, UnknownProcessorError

__all__ = ["register_token_boxes", "token_boxes", "whole_view"]

BoxFunction = Callable[[Any, tuple[int, int]], Boxes]

_REGISTRY: dict[str, BoxFunction] = {}
# For samples with more than one image, where a processor treats those otherwise.
_SEVERAL: dict[str, BoxFunction] = {}
# For processors that show the whole image beside its tiles: its number of tokens; negative if they come last.
_WHOLE: dict[str, Callable[[Any], int]] = {}

_KEPT_BYTES = 64 * 2**20  # 18 KB an image size for 576 tokens
_cache: OrderedDict[tuple[Any, ...], Boxes] = OrderedDict()
_cache_lock = Lock()


def register_token_boxes(
    processor_class: str,
    function: BoxFunction,
    *,
    several: BoxFunction | None = None,
    whole: Callable[[Any], int] | None = None,
) -> None:
    """Teach :func:`token_boxes` a processor class.

    Args:
        processor_class: its class name, such as ``"LlavaProcessor"``.
        function: takes (processor, (width, height)) and returns (tokens, 4), as :func:`token_boxes` does.
        several: the same for an image of a sample that has more than one, if the processor treats those otherwise.
        whole: where images are seen in tiles and as a whole, takes the processor and returns how many tokens the view
            of the whole has; negative where it comes last.
    """
    with _cache_lock:
        _REGISTRY[processor_class] = function
        _SEVERAL[processor_class] = several or function
        if whole is not None:
            _WHOLE[processor_class] = whole
        _cache.clear()


def token_boxes(
    processor: Any, image_size: tuple[int, int], *, images: int = 1, model_config: Any | None = None
) -> Boxes:
    """Return the source-image box that each visual token of one image sees.

    Results are kept by processor, settings and size.

    Args:
        processor: the model's processor (image processor and tokenizer together).
        image_size: (width, height) of the source image in pixels.
        images: how many images the sample has; some processors cut only a lone image into tiles.
        model_config: the model's config. With it, a processor that is not known is probed on a small random model of
            the config's class (:mod:`fivl_hf.geometry.probe`); this takes seconds per image size, and a warning says
            what was found.

    Returns:
        float64 (tokens, 4), read-only, in the order of the image placeholders in ``input_ids``: x0, y0, x1, y1 in
        source pixels, clipped to the image; NaN for tokens that see none of it (padding, class token, newline). For
        models that look at the image through cross-attention, in the order of its keys.

    Raises:
        UnknownProcessorError: naming the class and how to register it, or why its tokens have no boxes.
        ValueError: an image size that is not two positive numbers.
    """
    width, height = image_size
    if width < 1 or height < 1:
        raise ValueError(f"image_size is (width, height) in pixels, got {image_size}")
    name = type(processor).__name__
    function = (_REGISTRY if images == 1 else _SEVERAL).get(name)
    config = model_config.to_json_string() if function is None and model_config is not None else ""
    key = (name, _settings(processor), config, int(width), int(height), 1 if images == 1 else 2)
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    if function is None and model_config is None:
        raise UnknownProcessorError(
            f"token boxes are not known for {name}. Known: {', '.join(sorted(_REGISTRY))}. Register yours with "
            f"fivl_hf.geometry.register_token_boxes({name!r}, function), where function(processor, (width, height)) "
            "returns the (tokens, 4) source-pixel boxes of one image's visual tokens."
        )
    if function is None:
        from fivl_hf.geometry.probe import probed_boxes

        boxes = probed_boxes(model_config, processor, (int(width), int(height)), images=min(images, 2))
    else:
        boxes = function(processor, (int(width), int(height)))
    boxes.flags.writeable = False
    with _cache_lock:
        _cache[key] = boxes
        while len(_cache) > 1 and sum(kept.nbytes for kept in _cache.values()) > _KEPT_BYTES:
            _cache.popitem(last=False)
    return boxes


def whole_view(processor: Any) -> int:
    """Return the number of tokens that see the whole image beside its tiles (negative: the last ones), or 0."""
    function = _WHOLE.get(type(processor).__name__)
    return function(processor) if function else 0


def _settings(processor: Any) -> str:
    """Return what the boxes of one processor may depend on: its own fields and its image processor's."""
    fields = {name: value for name, value in vars(processor).items() if isinstance(value, (bool, int, float, str))}
    image_processor = getattr(processor, "image_processor", None)
    return repr((fields, getattr(processor, "images_kwargs", None), getattr(image_processor, "__dict__", None)))
