"""Rows to look at: the image with its evidence, and the conversation with the expressions in the same colours."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fivl_hf.images import open_rgb
from fivl_hf.masks import BoolArray, decode_mask
from fivl_hf.schema import FiVLRow, KeyExpression, validate_row
from fivl_hf.show.drawing import PALETTE, Color, enlarge, evidence_layer, ink_on
from fivl_hf.show.text import INK, SOFT, Pen
from fivl_hf.supervision import exclusion_reason

__all__ = ["Part", "RowView", "TurnView", "draw_row", "view_row"]

# Of expressions whose mask is in another image than the one drawn.
_ELSEWHERE = (221, 221, 221)


@dataclass(frozen=True)
class Part:
    """A piece of text, in the colour of its mask if it is a key expression.

    Attributes:
        coverage: share of the image that the mask covers.
        unusable: why training leaves the expression out.
    """

    text: str
    color: Color | None = None
    coverage: float | None = None
    unusable: str = ""

    @property
    def css(self) -> str:
        return f"rgb{self.color}"

    @property
    def ink(self) -> str:
        """The colour of letters on it."""
        return f"rgb{ink_on(self.color)}" if self.color else "inherit"


@dataclass(frozen=True)
class TurnView:
    """A question, and its answer in parts."""

    question: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class RowView:
    """The parts of a row that are shown.

    Attributes:
        image: the one of the row's images that most of its expressions are about.
        layer: what lies over it: outlines of masks, frames of boxes if wanted; None without evidence.
        turns: those with key expressions, or the first ones of a row that has none.
        more: the other turns.
        from_question: expressions grounded through the question.
        legend: every key expression with the share of the image that its mask covers.
        share: of the image that all masks together cover; None without masks.
    """

    id: str
    source: str
    image: Image.Image
    layer: Image.Image | None
    turns: tuple[TurnView, ...]
    more: tuple[TurnView, ...]
    from_question: tuple[Part, ...]
    legend: tuple[Part, ...]
    share: float | None

    @property
    def picture(self) -> Image.Image:
        """The image under its layer."""
        if self.layer is None:
            return self.image
        return Image.alpha_composite(self.image.convert("RGBA"), self.layer).convert("RGB")


def view_row(raw: Mapping[str, Any], *, side: int = 420, turns: int = 3, boxes: bool = False) -> RowView:
    """Lay out one row of either kind.

    Raises:
        RowError: it does not fit the schema.
    """
    row = validate_row(raw)
    shown = Counter(expression.image for expression in row.key_expressions).most_common(1)
    image = shown[0][0] if shown else 0
    here = [i for i, expression in enumerate(row.key_expressions) if expression.image == image]
    arrays = {i: decode_mask(mask) for i, mask in enumerate(row.masks)}
    colors = _colors(row, here)
    original = open_rgb(row.images[image]) if row.images else Image.new("RGB", (side, side // 2), "white")
    picture = enlarge(original, side)
    layer = _layer(row, here, arrays, colors, picture.size, picture.width / original.width if boxes else None)
    marked = sorted({expression.turn for expression in row.key_expressions})
    shown_turns = (marked or list(range(len(row.turns))))[:turns]
    others = [number for number in range(len(row.turns)) if number not in shown_turns]
    legend = tuple(
        _legend(expression, colors.get(i, _ELSEWHERE), float(arrays[i].mean()), bool(row.answers))
        for i, expression in enumerate(row.key_expressions)
    )
    return RowView(
        id=row.id,
        source=row.source,
        image=picture,
        layer=layer,
        turns=tuple(_turn(row, number, colors) for number in shown_turns),
        more=tuple(_turn(row, number, colors) for number in others),
        from_question=tuple(part for part, e in zip(legend, row.key_expressions, strict=True) if e.start < 0),
        legend=legend,
        share=float(np.mean(np.any([arrays[i] for i in here], axis=0))) if here else None,
    )


def _layer(
    row: FiVLRow,
    here: Sequence[int],
    arrays: Mapping[int, BoolArray],
    colors: Mapping[int, Color],
    size: tuple[int, int],
    scale: float | None,
) -> Image.Image | None:
    """Return masks of one image, and, scaled, their boxes."""
    if not here:
        return None
    masks = {colors[i]: arrays[i] for i in here}
    boxes: dict[Color, list[list[float]]] = {color: [] for color in masks}
    for i in here if scale else ():
        boxes[colors[i]] += (np.asarray(row.key_expressions[i].boxes, dtype=float).reshape(-1, 4) * scale).tolist()
    return evidence_layer(size, list(masks.values()), list(boxes.values()), list(masks))


def _legend(expression: KeyExpression, color: Color, coverage: float, is_benchmark: bool) -> Part:
    unusable = "" if is_benchmark else exclusion_reason(expression.keywords, coverage)
    return Part(expression.text, color, coverage, unusable)


def _colors(row: FiVLRow, here: Sequence[int]) -> dict[int, Color]:
    """Return colours of the expressions whose mask is in the image; the same mask has the same colour."""
    stored = {i: _key(row.masks[i]) for i in here}
    different = list(dict.fromkeys(stored.values()))
    return {i: PALETTE[different.index(mask) % len(PALETTE)] for i, mask in stored.items()}


def _key(mask: Any) -> Any:
    return mask.get("bytes") or mask.get("path") if isinstance(mask, Mapping) else id(mask)


def _turn(row: FiVLRow, number: int, colors: Mapping[int, Color]) -> TurnView:
    turn = row.turns[number]
    found = {i: expression for i, expression in enumerate(row.key_expressions) if expression.turn == number}
    others = tuple(dict.fromkeys(answer for answer in row.answers if answer != turn.answer))
    parts = _marked(turn.answer, found, colors)
    return TurnView(turn.question, (*parts, Part(f" (also: {', '.join(others)})")) if others else parts)


def _marked(answer: str, found: Mapping[int, KeyExpression], colors: Mapping[int, Color]) -> tuple[Part, ...]:
    """Return an answer in parts, those that are key expressions with their colour."""
    spans = sorted((e.start, e.end, colors.get(i, _ELSEWHERE)) for i, e in found.items() if e.start >= 0)
    parts: list[Part] = []
    cursor = 0
    for start, end, color in spans:
        if start < cursor:
            continue
        parts += [Part(answer[cursor:start]), Part(answer[start:end], color)]
        cursor = end
    return tuple(part for part in (*parts, Part(answer[cursor:])) if part.text)


def draw_row(view: RowView, width: int = 460) -> Image.Image:
    """Return one picture of a row: the evidence, and beside it the conversation."""
    text = Image.new("RGB", (width, 4000), "white")
    bottom = _write(text, view)
    height = max(view.picture.height, bottom) + 24
    sheet = Image.new("RGB", (view.picture.width + width + 36, height), "white")
    sheet.paste(view.picture, (12, 12))
    sheet.paste(text.crop((0, 0, width, height - 24)), (view.picture.width + 24, 12))
    return sheet


def _write(page: Image.Image, view: RowView) -> int:
    """Write the conversation; returns where it ends."""
    pen = Pen(page)
    for turn in view.turns:
        pen.write([(turn.question, None)], SOFT)
        pen.write(_runs(turn.parts), INK, gap=10)
    if view.from_question:
        pen.write([("found through the question:", None)], SOFT)
        pen.write(_runs(view.from_question), INK, gap=10)
    if view.more:
        turns = "turn" if len(view.more) == 1 else "turns"
        pen.write([(f"and {len(view.more)} more {turns}", None)], SOFT, gap=10)
    for part in view.legend:
        unusable = f" ({part.unusable})" if part.unusable else ""
        pen.write([*_runs([part]), (f" {part.coverage:.1%} of the image{unusable}", None)], SOFT)
    if not view.legend:
        pen.write([("no evidence", None)], SOFT)
    pen.write([(view.id, None)], SOFT)
    return pen.y


def _runs(parts: Sequence[Part]) -> list[tuple[str, Color | None]]:
    return [(part.text, part.color) for part in parts]
