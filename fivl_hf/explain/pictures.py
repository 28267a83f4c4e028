"""Pictures of single samples: the evidence, where a head looks, what the image positions predict."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fivl_hf.explain.observation import token_attention, vision_predictions
from fivl_hf.explain.samples import Evidence, Sample
from fivl_hf.keywords import span_tokens
from fivl_hf.show.drawing import Color, enlarge, outline_masks
from fivl_hf.show.plots import overlay_tokens, paint_segments
from fivl_hf.show.text import INK, SOFT, Pen

__all__ = ["attention_picture", "evidence_sheet", "last_place", "segments_picture", "sheet", "word_tokens"]

_TEXT = 20  # pixels


def evidence_sheet(
    model: Any, sample: Sample, k: int, layer: int, head: int, *, word: str | None = None, side: int = 288
) -> Image.Image:
    """Return one key expression in pictures: the image, its mask, one head's attention, the predicted segment.

    Above them stand the question and the answer. Where the image is seen at two scales, the attention to each has a
    picture of its own; models without visual tokens in the sequence predict no segment.

    Args:
        k: which of the sample's key expressions.
        word: follow the attention of this word, where an answer says it last, instead of the expression's.
    """
    evidence = sample.evidence[k]
    expression = evidence.expression
    index, image = expression.image, sample.images[expression.image]
    turn, tokens, said = expression.turn, evidence.tokens, expression.text
    if word is not None:
        turn, tokens, said = _said_in(sample, word), word_tokens(sample, word), word
    panels = {
        f"image of {sample.id}": enlarge(image, side),
        f"mask of “{expression.text}”": outline_masks(image, [evidence.mask], side=side),
    }
    for scale in sorted(set(sample.scales[sample.image_of == index]) - {""}) or [None]:
        title = f"layer {layer}, head {head} on “{said}”" + (f", {scale}" if scale else "")
        panels[title] = attention_picture(model, sample, tokens, layer, head, index, side, scale=scale)
    if sample.in_sequence:
        noun = expression.keywords[-1] if expression.keywords else ""
        title = f"patches that predict “{noun}”" if noun else "no noun to predict"
        panels[title] = segments_picture(model, sample, [evidence], side)
    question, answer = sample.text[turn]
    return sheet(panels, [question, answer], "Attention: from black (none) to yellow (most).")


def _said_in(sample: Sample, word: str) -> int:
    place = last_place([answer for _, answer in sample.text], word)
    return place[0] if place else 0


def attention_picture(
    model: Any,
    sample: Sample,
    tokens: NDArray[np.intp],
    layer: int,
    head: int,
    image: int = 0,
    side: int = 288,
    *,
    scale: str | None = None,
) -> Image.Image:
    """Draw one head's attention over one of the sample's images while the given tokens are written.

    Args:
        tokens: (K,) positions in the sequence; their attention is averaged.
        side: length of the picture's longer edge, in pixels.
        scale: only the tokens of one scale, "whole" or "tiles".

    Raises:
        ValueError: no tokens, or a layer or head that the model does not have or that does not see the image.
    """
    attention = token_attention(model, sample, [tokens])[0]
    if attention is None:
        raise ValueError(f"row {sample.id!r}: no tokens to follow the attention of")
    layers, heads, _ = attention.shape
    if not (0 <= layer < layers and 0 <= head < heads):
        raise ValueError(f"layer {layer}, head {head}: the model has {layers} layers of {heads} heads, counted from 0")
    if np.isnan(attention[layer]).all():
        raise ValueError(f"layer {layer} does not look at the image: it is not a cross-attention layer")
    in_image = (sample.image_of == image) & (True if scale is None else sample.scales == scale)
    return overlay_tokens(sample.images[image], attention[layer, head, in_image], sample.boxes[in_image], side)


def segments_picture(model: Any, sample: Sample, shown: Sequence[Evidence], side: int = 288) -> Image.Image:
    """Draw the visual tokens that predict each expression's keyword, outlined, one colour an expression.

    Raises:
        ValueError: the model's visual tokens do not predict (cross-attention).
    """
    image = shown[0].expression.image if shown else 0
    in_image = sample.image_of == image
    everything = vision_predictions(model, sample)
    if everything is None:
        raise ValueError("the model's visual tokens do not stand in the sequence, so they predict no token")
    predicted = everything[in_image]
    segments = [predicted == (-1 if evidence.keyword_id is None else evidence.keyword_id) for evidence in shown]
    return paint_segments(sample.images[image], segments, sample.boxes[in_image], side)


def word_tokens(sample: Sample, word: str) -> NDArray[np.intp]:
    """Return positions (K,) in the sequence of the tokens of a word (or phrase) where an answer says it last.

    Raises:
        ValueError: no answer of the sample says it.
    """
    place = last_place([answer for _, answer in sample.text], word)
    if place is None:
        raise ValueError(f"row {sample.id!r}: {word!r} does not occur in its answers")
    turn, start = place
    start += sample.answers[turn].text_start
    return span_tokens(sample.offsets, start, start + len(word))


def last_place(answers: Sequence[str], word: str) -> tuple[int, int] | None:
    """(answer, character) of the last whole-word occurrence in a list of answers; None if there is none."""
    whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    for number in reversed(range(len(answers))):
        if found := list(whole.finditer(answers[number])):
            return number, found[-1].start()
    return None


def sheet(panels: Mapping[str, Image.Image], heading: Sequence[str], footing: str, gap: int = 12) -> Image.Image:
    """Return pictures on white, two in a row, each under its title; lines of text above and below them.

    Titles and text are wrapped and large enough to be read where the sheet is as wide as a phone.
    """
    column = max(150, *(picture.width for picture in panels.values()))
    width = 2 * column + 3 * gap
    page = Image.new("RGB", (width, 8000), "white")
    y = gap
    for number, text in enumerate(heading):
        y = _write(page, text, (gap, y), width - 2 * gap, SOFT if number == 0 else INK)
    titles = list(panels)
    for start in range(0, len(titles), 2):
        pair = titles[start : start + 2]
        top = y + gap
        places = [(gap + i * (column + gap), title) for i, title in enumerate(pair)]
        bottom = max(_write(page, title, (x, top), column, INK) for x, title in places)
        for x, title in places:
            page.paste(panels[title], (x, bottom + 2))
        y = bottom + 2 + max(panels[title].height for title in pair)
    y = _write(page, footing, (gap, y + gap), width - 2 * gap, SOFT)
    return page.crop((0, 0, width, y + gap))


def _write(page: Image.Image, text: str, place: tuple[int, int], width: int, ink: Color) -> int:
    """Write a wrapped paragraph; returns where it ends."""
    pen = Pen(page, *place, width, size=_TEXT)
    pen.write([(text, None)], ink, gap=0)
    return pen.y
