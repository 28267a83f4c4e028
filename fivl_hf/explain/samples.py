"""Rows made ready for explanation: encoded conversations with their boxes, coverages and expression tokens.

Shapes: L layers, H heads, N visual tokens of the sequence, T tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fivl_hf.chat import AnswerSpan, Encoded, as_blocks, encode, similar_batches
from fivl_hf.geometry import row_coverage, token_boxes, token_scales
from fivl_hf.images import open_rgb
from fivl_hf.keywords import head_noun, span_tokens, word_token_id
from fivl_hf.masks import BoolArray, FloatArray, decode_mask, mask_part
from fivl_hf.models import image_token_id, uses_cross_attention
from fivl_hf.schema import FiVLRow, KeyExpression, validate_row

__all__ = ["Evidence", "ReadableRow", "Sample", "prepare", "prepare_batch", "readable", "row_batches"]


# Batches among which rows are sorted by length.
_SORTED_BATCHES = 4


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
    """One row, encoded alone or in a batch.

    Attributes:
        id: the row's.
        encoded: the batch of conversations with their answers (teacher forcing), padded on the right.
        place: of this row in it.
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
    place: int
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
        """The arguments of the model's forward, for the whole batch."""
        return self.encoded.inputs

    @property
    def token_ids(self) -> torch.Tensor:
        """(T,) of the conversation."""
        return self.encoded.inputs["input_ids"][self.place]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(T, 2) characters of each token; see :class:`fivl_hf.chat.Encoded`."""
        return self.encoded.offsets[self.place]

    @property
    def answers(self) -> list[AnswerSpan]:
        """Character spans of the answers, in the text that ``offsets`` refers to."""
        return self.encoded.answers[self.place]


def prepare(model: Any, processor: Any, raw: Mapping[str, Any]) -> Sample:
    """Encode one raw row (conversation or benchmark) with its answers.

    Raises:
        RowError: the row does not fit the schema.
        ImageError: one of its images cannot be read.
        ValueError: visual tokens and boxes do not agree in number.
    """
    return prepare_batch(model, processor, [readable(raw)])[0]


@dataclass(frozen=True)
class ReadableRow:
    """A row that fits the schema, and its images, RGB."""

    row: FiVLRow
    images: tuple[Image.Image, ...]


def readable(raw: Mapping[str, Any]) -> ReadableRow:
    """Check a raw row and open its images.

    Raises:
        RowError: the row does not fit the schema.
        ImageError: one of its images cannot be read.
    """
    row = validate_row(raw)
    return ReadableRow(row, tuple(open_rgb(image) for image in row.images))


def row_batches(
    rows: Sequence[Mapping[str, Any]], numbers: Iterable[int], size: int
) -> Iterator[list[tuple[int, Mapping[str, Any]]]]:
    """Yield rows, by their numbers, in batches with the same number of images each and texts of similar length."""
    numbered = ((number, rows[number]) for number in numbers)
    return similar_batches(numbered, size, _image_count, _text_length, _SORTED_BATCHES)


def _image_count(numbered: tuple[int, Mapping[str, Any]]) -> int:
    images = numbered[1].get("images")
    return len(images) if isinstance(images, Sequence) else 0


def _text_length(numbered: tuple[int, Mapping[str, Any]]) -> int:
    """Return about how long a row's text is, whatever its form; a row of a wrong form is reported when it is read."""
    return len(str(numbered[1].get("messages") or numbered[1].get("question")))


def prepare_batch(model: Any, processor: Any, rows: Sequence[ReadableRow]) -> list[Sample]:
    """Encode rows that all have the same number of images together, with their answers.

    Raises:
        ValueError: visual tokens and boxes of a row do not agree in number.
    """
    encoded = encode(
        processor,
        [as_blocks(each.row.messages(), len(each.images)) for each in rows],
        [each.images for each in rows],
        padding=len(rows) > 1,
        padding_side="right",
    )
    token_of = lru_cache(maxsize=None)(partial(word_token_id, processor.tokenizer))  # words repeat within a batch
    return [
        _sample(model, processor, each.row, each.images, encoded, place, token_of) for place, each in enumerate(rows)
    ]


def _sample(
    model: Any,
    processor: Any,
    row: FiVLRow,
    images: tuple[Image.Image, ...],
    encoded: Encoded,
    place: int,
    token_of: Callable[[str], int | None],
) -> Sample:
    boxes = [token_boxes(processor, image.size, images=len(images), model_config=model.config) for image in images]
    positions = _visual_positions(model.config, encoded.inputs, place, len(images))
    if len(positions) != sum(map(len, boxes)):
        raise ValueError(f"row {row.id!r}: {len(positions)} visual tokens, but boxes for {sum(map(len, boxes))}")
    image_of = np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])
    joined = np.concatenate(boxes) if boxes else np.empty((0, 4))
    masks = [decode_mask(mask) for mask in row.masks]
    cover, visible = row_coverage([e.image for e in row.key_expressions], [mask_part(mask) for mask in masks], boxes)
    covered = np.where(visible, cover, np.nan)
    evidence = tuple(
        _evidence(row, expression, mask, under_mask, encoded, place, token_of)
        for expression, mask, under_mask in zip(row.key_expressions, masks, covered, strict=True)
    )
    text = tuple((turn.question, turn.answer) for turn in row.turns)
    return Sample(
        id=row.id,
        encoded=encoded,
        place=place,
        image_positions=positions,
        boxes=joined,
        image_of=image_of,
        scales=np.concatenate([token_scales(processor, b) for b in boxes]) if boxes else np.empty(0, dtype="<U5"),
        in_sequence=not uses_cross_attention(model.config),
        images=images,
        evidence=evidence,
        text=text,
    )


def _visual_positions(config: Any, inputs: Any, place: int, images: int) -> torch.Tensor:
    """Return where the visual tokens of one sample stand: in the sequence, or among the cross-attention's keys."""
    if not uses_cross_attention(config):
        return torch.nonzero(inputs["input_ids"][place] == image_token_id(config)).flatten()
    if "cross_attention_mask" not in inputs:
        return torch.empty(0, dtype=torch.int64)
    vision = config.vision_config
    keys_of_tile = (vision.image_size // vision.patch_size) ** 2 + 1
    return torch.arange(images * inputs["cross_attention_mask"].shape[3] * keys_of_tile)


def _evidence(
    row: FiVLRow,
    expression: KeyExpression,
    mask: BoolArray,
    covered: FloatArray,
    encoded: Encoded,
    place: int,
    token_of: Callable[[str], int | None],
) -> Evidence:
    span = encoded.answers[place][expression.turn]
    # An expression grounded through the question stands for the whole one-word answer.
    length = len(row.turns[expression.turn].answer)
    start, end = (expression.start, expression.end) if expression.start >= 0 else (0, length)
    tokens = span_tokens(encoded.offsets[place], span.text_start + start, span.text_start + end)
    head = head_noun(expression.text, expression.keywords)
    return Evidence(expression, mask, covered, tokens, token_of(head) if head else None)
