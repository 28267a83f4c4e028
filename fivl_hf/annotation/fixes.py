"""Fixes that annotators make to an expression: checked when they are made, applied when a dataset is filtered."""

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from fivl_hf.images import as_encoded, open_image
from fivl_hf.keywords import nouns
from fivl_hf.masks import BoolArray, decode_mask, encode_mask
from fivl_hf.schema import FiVLRow, KeyExpression

__all__ = ["checked_fix", "fixed_expression", "painted_mask", "resized_mask"]


def checked_fix(row: FiVLRow, place: int, field: str, value: Any) -> Any:
    """Return the value of a fix as it is kept.

    Raises:
        ValueError: words that the answer lacks, an expression that is there already, a box outside the image, or a
            painted mask that is empty, unreadable or of another size.
    """
    expression = row.key_expressions[place]
    if field == "text" or (field == "missed" and value is not None):
        answer = row.turns[expression.turn].answer
        texts = [_in_answer(text, answer) for text in ([value] if field == "text" and value else value or ())]
        others = [each for i, each in enumerate(row.key_expressions) if field == "missed" or i != place]
        known = {each.text.casefold() for each in others if each.turn == expression.turn}
        if there := [text for text in texts if text.casefold() in known]:
            raise ValueError(f"{there[0]!r} is a key expression of this answer already")
        if field == "missed":
            return list(dict.fromkeys(texts))
        return texts[0] if texts and texts[0] != expression.text else ""
    if field == "boxes" and value is not None:
        return [_inside(box, row.sizes[expression.image]) for box in value]
    if field == "mask_png" and value:
        _require_mask(base64.b64decode(value), row.sizes[expression.image])
    return value


def _require_mask(png: bytes, size: tuple[int, int]) -> None:
    """Raise ValueError if a painted mask cannot be read, has another size (width, height), or covers nothing."""
    image = open_image(png)
    if image.size != size:
        raise ValueError(f"the painted mask has {image.size[0]}x{image.size[1]} pixels, the image {size[0]}x{size[1]}")
    if not decode_mask(image).any():
        raise ValueError("the painted mask covers nothing; to take the expression out of the dataset, drop it")


def _in_answer(text: str, answer: str) -> str:
    """Return words as the answer has them."""
    start = answer.find(text)
    start = answer.casefold().find(text.casefold()) if start < 0 else start
    if not text or start < 0 or answer[start : start + len(text)].casefold() != text.casefold():
        raise ValueError(f"{text!r:.200} is not in the answer: take words as they stand there")
    return answer[start : start + len(text)]


def _inside(box: Sequence[float], size: tuple[int, int]) -> list[float]:
    """Return a box cut to the image."""
    x0, y0, x1, y1 = box
    x0, x1 = (min(max(0.0, float(x)), size[0]) for x in sorted((x0, x1)))
    y0, y1 = (min(max(0.0, float(y)), size[1]) for y in sorted((y0, y1)))
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise ValueError("a box covers at least a pixel of the image")
    return [x0, y0, x1, y1]


def resized_mask(mask: BoolArray, size: tuple[int, int]) -> BoolArray:
    """Return a mask (H, W) scaled to a size (width, height)."""
    scaled = Image.fromarray(mask).convert("L").resize(size, Image.Resampling.BILINEAR)
    return np.asarray(scaled) >= 128


def painted_mask(layers: Sequence[Image.Image], before: BoolArray) -> BoolArray:
    """Return a mask with what was painted and erased; the rest stays as it is to the pixel.

    Args:
        layers: of the editor, of one size; what is at least half opaque on any of them is the mask now.
        before: (H, W) the mask of which a scaled copy was edited.

    Returns:
        (H, W)
    """
    if not layers:
        return before
    painted = np.any([np.asarray(layer.convert("RGBA").getchannel("A")) >= 128 for layer in layers], axis=0)
    changed = painted != resized_mask(before, layers[0].size)
    size = (before.shape[1], before.shape[0])
    return np.where(resized_mask(changed, size), resized_mask(painted, size), before)


def fixed_expression(
    row: FiVLRow,
    place: int,
    *,
    text: str | None = None,
    boxes: Sequence[Sequence[float]] | None = None,
    mask_png: str | None = None,
) -> tuple[KeyExpression, Any]:
    """Return an expression and its mask with annotators' fixes applied; what is None stays.

    Of several places where the answer has the new words, the one nearest to the old ones is taken.

    Raises:
        ValueError: a fix that the row cannot take.
    """
    expression, mask = row.key_expressions[place], row.masks[place]
    if text and (words := checked_fix(row, place, "text", text)):
        answer = row.turns[expression.turn].answer
        starts = [match.start() for match in re.finditer(re.escape(words), answer)]
        start = min(starts, key=lambda each: abs(each - expression.start))
        expression = replace(expression, text=words, start=start, end=start + len(words), keywords=nouns(words))
    if boxes is not None:
        inside = checked_fix(row, place, "boxes", boxes)
        expression = replace(expression, boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in inside), score=None)
    if mask_png:
        painted = decode_mask(base64.b64decode(checked_fix(row, place, "mask_png", mask_png)))
        mask = as_encoded(encode_mask(painted))
    return expression, mask
