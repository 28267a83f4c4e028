"""Rows to look at: the picture with its evidence, and the conversation with the expressions in the same colours."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fivl_hf.drawing import PALETTE, draw_boxes, enlarge, tint_masks
from fivl_hf.images import open_rgb
from fivl_hf.masks import decode_mask
from fivl_hf.schema import FiVLRow, KeyExpression, validate_row

__all__ = ["Part", "RowView", "TurnView", "draw_row", "view_row"]

Color = tuple[int, int, int]
# Of expressions whose mask is in another picture than the one drawn.
_ELSEWHERE = (221, 221, 221)
_INK, _SOFT = (29, 36, 48), (92, 102, 117)
_LINE = 1.35


@dataclass(frozen=True)
class Part:
    """A piece of text, in the colour of its mask if it is a key expression."""

    text: str
    color: Color | None = None
    coverage: float | None = None

    @property
    def css(self) -> str:
        return f"rgb{self.color}"


@dataclass(frozen=True)
class TurnView:
    """A question, and its answer in parts."""

    question: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class RowView:
    """What is shown of a row.

    Attributes:
        picture: with tinted masks, and boxes if they were asked for.
        turns: those with key expressions, or the first ones of a row that has none.
        asked: expressions grounded through the question.
        legend: every key expression with the share of the picture that its mask covers.
        share: of the picture that all masks together cover; None without masks.
        hidden: how many turns are not shown.
    """

    id: str
    source: str
    picture: Image.Image
    turns: tuple[TurnView, ...]
    asked: tuple[Part, ...]
    legend: tuple[Part, ...]
    share: float | None
    hidden: int


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
    distinct = {colors[i]: arrays[i] for i in here}
    original = open_rgb(row.images[image]) if row.images else Image.new("RGB", (side, side // 2), "white")
    picture = tint_masks(original, list(distinct.values()), side=side) if here else enlarge(original, side)
    for i in here if boxes else ():
        scaled = np.array(row.key_expressions[i].boxes).reshape(-1, 4) * (picture.width / original.width)
        picture = draw_boxes(picture, scaled.tolist(), colors[i], side=side)
    chosen = sorted({expression.turn for expression in row.key_expressions}) or list(range(len(row.turns)))
    legend = tuple(
        Part(expression.text, colors.get(i, _ELSEWHERE), float(arrays[i].mean()))
        for i, expression in enumerate(row.key_expressions)
    )
    return RowView(
        id=row.id,
        source=row.source,
        picture=picture,
        turns=tuple(_turn(row, number, colors) for number in chosen[:turns]),
        asked=tuple(part for part, e in zip(legend, row.key_expressions, strict=True) if e.start < 0),
        legend=legend,
        share=float(np.mean(np.any(list(distinct.values()), axis=0))) if here else None,
        hidden=len(row.turns) - len(chosen[:turns]),
    )


def _colors(row: FiVLRow, here: Sequence[int]) -> dict[int, Color]:
    """Colours of the expressions whose mask is in the picture; the same mask has the same colour."""
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
    """An answer in parts, those that are key expressions with their colour."""
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
    """One picture of a row: the evidence, and beside it the conversation."""
    text = Image.new("RGB", (width, 4000), "white")
    bottom = _write(text, view)
    height = max(view.picture.height, bottom) + 24
    sheet = Image.new("RGB", (view.picture.width + width + 36, height), "white")
    sheet.paste(view.picture, (12, 12))
    sheet.paste(text.crop((0, 0, width, height - 24)), (view.picture.width + 24, 12))
    return sheet


def _write(page: Image.Image, view: RowView) -> int:
    """Write the conversation; returns where it ends."""
    pen = _Pen(page)
    for turn in view.turns:
        pen.write([Part(turn.question)], _SOFT)
        pen.write(turn.parts, _INK, gap=10)
    if view.asked:
        pen.write([Part("found through the question:")], _SOFT)
        pen.write(view.asked, _INK, gap=10)
    if view.hidden:
        more = "turn" if view.hidden == 1 else "turns"
        pen.write([Part(f"and {view.hidden} more {more}")], _SOFT, gap=10)
    for part in view.legend:
        pen.write([part, Part(f" {part.coverage:.1%} of the picture")], _SOFT)
    if not view.legend:
        pen.write([Part("no evidence")], _SOFT)
    pen.write([Part(view.id)], _SOFT)
    return pen.y


class _Pen:
    """Writes words from left to right and top to bottom, with coloured grounds."""

    def __init__(self, page: Image.Image, size: int = 16) -> None:
        from matplotlib import font_manager

        self._font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
        self._draw, self._width, self._height = ImageDraw.Draw(page), page.width, round(size * _LINE)
        self._limit = page.height - self._height
        self.y = 0

    def write(self, parts: Sequence[Part], ink: Color, gap: int = 2) -> None:
        """One paragraph."""
        x = 0
        for part in parts:
            for word in _words(part.text):
                length = round(self._draw.textlength(word, self._font))
                if x and x + length > self._width:
                    x, self.y = 0, self.y + self._height
                    word = word.lstrip()
                    length = round(self._draw.textlength(word, self._font))
                if self.y > self._limit:
                    return
                if part.color:
                    self._draw.rectangle((x, self.y, x + length, self.y + self._height - 2), fill=part.color)
                self._draw.text((x, self.y), word, fill=_INK if part.color else ink, font=self._font)
                x += length
        self.y += self._height + gap


def _words(text: str) -> list[str]:
    """Words with the space before them."""
    words = " ".join(text.split()).split(" ")
    spaced = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
    spaced[0] = f" {spaced[0]}" if text[:1].isspace() else spaced[0]
    if text[-1:].isspace():
        spaced[-1] += " "
    return spaced
