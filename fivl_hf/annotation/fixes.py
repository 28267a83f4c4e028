"""Fixes that annotators make to an expression: checked when they are made, applied when a dataset is filtered."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from fivl_hf.annotation.records import Annotation
from fivl_hf.images import as_encoded, open_image
from fivl_hf.keywords import nouns
from fivl_hf.masks import BoolArray, decode_mask, encode_mask
from fivl_hf.schema import FiVLRow, KeyExpression

__all__ = ["checked_fix", "fixed_expression", "painted_mask"]


def checked_fix(row: FiVLRow, place: int, field: str, value: Any) -> Any:
    """Return the value of a fix as it is kept.

    Raises:
        ValueError: words that the answer lacks, an expression that is there already, or a box outside the image.
    """
    expression = row.key_expressions[place]
    answer = row.turns[expression.turn].answer
    if field == "text" and isinstance(value, str):
        text = _in_answer(value, answer) if value else ""
        return "" if text == expression.text else text
    if field == "missed" and isinstance(value, list):
        known = {each.text.casefold() for each in row.key_expressions if each.turn == expression.turn}
        texts = list(dict.fromkeys(_in_answer(str(text), answer) for text in value))
        if there := [text for text in texts if text.casefold() in known]:
            raise ValueError(f"{there[0]!r} is a key expression of this answer already")
        return texts
    if field == "boxes" and isinstance(value, list):
        return [_inside(box, row.sizes[expression.image]) for box in value]
    return value


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


def painted_mask(layers: Sequence[Image.Image], size: tuple[int, int]) -> BoolArray:
    """Return what is painted on any layer, scaled to a size (width, height): -> (H, W)."""
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for layer in layers:
        alpha = layer.convert("RGBA").getchannel("A").resize(size, Image.Resampling.BILINEAR)
        mask |= np.asarray(alpha) >= 128
    return mask


def fixed_expression(row: FiVLRow, place: int, annotation: Annotation) -> tuple[KeyExpression, Any]:
    """Return an expression and its mask, as an annotator wants them.

    Raises:
        ValueError: a fix that the row cannot take, or a mask of another size.
    """
    expression, mask = row.key_expressions[place], row.masks[place]
    changes: dict[str, Any] = {}
    if annotation.text:
        text = checked_fix(row, place, "text", annotation.text)
        if text:
            start = row.turns[expression.turn].answer.index(text)
            changes.update(text=text, start=start, end=start + len(text), keywords=nouns(text))
    if annotation.boxes is not None:
        changes["boxes"] = tuple(map(tuple, checked_fix(row, place, "boxes", annotation.boxes)))
        changes["score"] = None
    if annotation.mask_bytes:
        painted = open_image(annotation.mask_bytes)
        if painted.size != row.sizes[expression.image]:
            raise ValueError(f"row {row.id!r}: a painted mask of {painted.size}, the image has another size")
        mask = as_encoded(encode_mask(decode_mask(painted)))
    return KeyExpression(**{**_fields(expression), **changes}), mask


def _fields(expression: KeyExpression) -> Mapping[str, Any]:
    return vars(expression)
