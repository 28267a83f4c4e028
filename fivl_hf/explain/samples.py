"""Rows made ready for explanation: one encoded conversation with its boxes, coverages and expression tokens.

Shapes: L layers, H heads, N visual tokens of the sequence, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fivl_hf.chat import Encoded, as_blocks, encode
from fivl_hf.geometry import row_coverage, token_boxes, token_scales
from fivl_hf.images import open_rgb
from fivl_hf.keywords import head_noun, span_tokens, word_token_id
from fivl_hf.masks import BoolArray, FloatArray, decode_mask, mask_part
from fivl_hf.models import image_token_id, uses_cross_attention
from fivl_hf.schema import FiVLRow, KeyExpression, validate_row

__all__ = ["Evidence", "Sample", "prepare"]


@dataclass(frozen=True)
class Evidence:
    """A key expression in one sample.

    Attributes:
        expression: as in the row.
        mask: (H, W) bool, of its image.
        coverage: (N,) of every visual token; NaN where the token sees nothing of this image.
        tokens: positions of the expression's tokens in the sequence; empty when they were not found.
        keyword_id: token id of its head noun, or None.
    """

    expression: KeyExpression
    mask: NDArray[np.bool_]
    coverage: NDArray[np.float64]
    tokens: NDArray[np.intp]
    keyword_id: int | None


@dataclass(frozen=True)
class Sample:
    """One row, encoded alone.

    Attributes:
        id: the row's.
        encoded: the conversation with its answers (teacher forcing), batch size 1.
        image_positions: (N,) positions of the visual tokens; of a model that looks at the image through
            cross-attention, of its keys.
        boxes: (N, 4) what each sees, in its own image's pixels.
        image_of: (N,) which image that is.
        scales: (N,) "whole" or "tiles" in images seen at two scales; see :func:`fivl_hf.geometry.token_scales`.
        in_sequence: whether the visual tokens stand in the sequence, and so predict tokens themselves.
        images: the row's images, RGB.
        evidence: one entry per key expression.
        text: the conversation as (question, answer) pairs.
    """

    id: str
    encoded: Encoded
    image_positions: torch.Tensor
    boxes: NDArray[np.float64]
    image_of: NDArray[np.intp]
    scales: NDArray[np.str_]
    in_sequence: bool
    images: tuple[Image.Image, ...]
    evidence: tuple[Evidence, ...]
    text: tuple[tuple[str, str], ...]

    @property
    def inputs(self) -> Any:
        """The arguments of the model's forward, batch size 1."""
        return self.encoded.inputs


def prepare(model: Any, processor: Any, raw: Mapping[str, Any]) -> Sample:
    """Encode one raw row (conversation or benchmark) with its answers.

    Raises:
        RowError: the row does not fit the schema.
        ValueError: visual tokens and boxes do not agree in number.
    """
    row = validate_row(raw)
    images = tuple(open_rgb(image) for image in row.images)
    encoded = encode(processor, [as_blocks(row.messages(), len(images))], [images])
    boxes = [token_boxes(processor, image.size, images=len(images), model_config=model.config) for image in images]
    positions = _visual_positions(model.config, encoded.inputs)
    if len(positions) != sum(map(len, boxes)):
        raise ValueError(f"row {row.id!r}: {len(positions)} visual tokens, but boxes for {sum(map(len, boxes))}")
    image_of = np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])
    joined = np.concatenate(boxes) if boxes else np.empty((0, 4))
    masks = [decode_mask(mask) for mask in row.masks]
    cover, visible = row_coverage([e.image for e in row.key_expressions], [mask_part(mask) for mask in masks], boxes)
    covered = np.where(visible, cover, np.nan)
    evidence = tuple(
        _evidence(row, expression, mask, under_mask, encoded, processor.tokenizer)
        for expression, mask, under_mask in zip(row.key_expressions, masks, covered, strict=True)
    )
    text = tuple((turn.question, turn.answer) for turn in row.turns)
    return Sample(
        id=row.id,
        encoded=encoded,
        image_positions=positions,
        boxes=joined,
        image_of=image_of,
        scales=np.concatenate([token_scales(processor, b) for b in boxes]) if boxes else np.empty(0, dtype="<U5"),
        in_sequence=not uses_cross_attention(model.config),
        images=images,
        evidence=evidence,
        text=text,
    )


def _visual_positions(config: Any, inputs: Any) -> torch.Tensor:
    """Return where the visual tokens of one sample stand: in the sequence, or among the cross-attention's keys."""
    if not uses_cross_attention(config):
        return torch.nonzero(inputs["input_ids"][0] == image_token_id(config)).flatten()
    if "cross_attention_mask" not in inputs:
        return torch.empty(0, dtype=torch.int64)
    vision = config.vision_config
    keys_of_tile = (vision.image_size // vision.patch_size) ** 2 + 1
    return torch.arange(inputs["cross_attention_mask"].shape[2:].numel() * keys_of_tile)


def _evidence(
    row: FiVLRow, expression: KeyExpression, mask: BoolArray, covered: FloatArray, encoded: Any, tokenizer: Any
) -> Evidence:
    span = encoded.answers[0][expression.turn]
    # An expression grounded through the question stands for the whole one-word answer.
    length = len(row.turns[expression.turn].answer)
    start, end = (expression.start, expression.end) if expression.start >= 0 else (0, length)
    tokens = span_tokens(encoded.offsets[0], span.text_start + start, span.text_start + end)
    head = head_noun(expression.text, expression.keywords)
    return Evidence(expression, mask, covered, tokens, word_token_id(tokenizer, head) if head else None)
