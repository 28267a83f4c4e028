"""Pictures of single samples: the evidence, where a head looks, what the image positions predict."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fivl_hf.drawing import enlarge, overlay_mask
from fivl_hf.explain.analysis import token_attention, vision_predictions
from fivl_hf.explain.plots import overlay_tokens, paint_segments
from fivl_hf.explain.samples import Evidence, Sample
from fivl_hf.keywords import span_tokens

__all__ = ["attention_picture", "evidence_strip", "last_place", "segments_picture", "side_by_side", "word_tokens"]

_CAPTION = 24  # pixels above each picture


def evidence_strip(
    model: Any, sample: Sample, k: int, layer: int, head: int, *, word: str | None = None, side: int = 288
) -> Image.Image:
    """One key expression in pictures: the image, its mask, one head's attention, the predicted segment.

    Where the image is seen at two scales, the attention to each has a picture of its own; models without visual tokens
    in the sequence predict no segment.

    Args:
        k: which of the sample's key expressions.
        word: follow the attention of this word, where an answer says it last, instead of the expression's.
    """
    evidence = sample.evidence[k]
    picture = sample.pictures[evidence.expression.image]
    tokens = evidence.tokens if word is None else word_tokens(sample, word)
    said = evidence.expression.text if word is None else word
    image = evidence.expression.image
    strip = {
        sample.id: enlarge(picture, side),
        f"mask: {evidence.expression.text}": overlay_mask(picture, evidence.mask, side=side),
    }
    for scale in sorted(set(sample.scales[sample.image_of == image]) - {""}) or [None]:
        title = (f"{scale}, " if scale else "") + f"layer {layer}, head {head}: “{said}”"
        strip[title] = attention_picture(model, sample, tokens, layer, head, image, side, scale=scale)
    if sample.in_sequence:
        strip["patches that say the noun"] = segments_picture(model, sample, [evidence], side)
    return side_by_side(strip)


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
    """One head's attention over one of the sample's images while the given tokens are written.

    Args:
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
        raise ValueError(f"layer {layer} does not look at the image: it is no cross-attention layer")
    here = (sample.image_of == image) & (True if scale is None else sample.scales == scale)
    return overlay_tokens(sample.pictures[image], attention[layer, head, here], sample.boxes[here], side)


def segments_picture(model: Any, sample: Sample, shown: Sequence[Evidence], side: int = 288) -> Image.Image:
    """The visual tokens that predict each expression's keyword, tinted, one colour an expression."""
    image = shown[0].expression.image if shown else 0
    here = sample.image_of == image
    everything = vision_predictions(model, sample)
    if everything is None:
        raise ValueError("the model's visual tokens do not stand in the sequence, so they predict no token")
    predicted = everything[here]
    segments = [predicted == (-1 if evidence.keyword_id is None else evidence.keyword_id) for evidence in shown]
    return paint_segments(sample.pictures[image], segments, sample.boxes[here], side)


def word_tokens(sample: Sample, word: str) -> NDArray[np.intp]:
    """Positions of the tokens of a word (or phrase) where an answer says it last.

    Raises:
        ValueError: no answer of the sample says it.
    """
    place = last_place([answer for _, answer in sample.text], word)
    if place is None:
        raise ValueError(f"row {sample.id!r}: {word!r} does not occur in its answers")
    turn, start = place
    start += sample.encoded.answers[0][turn].text_start
    return span_tokens(sample.encoded.offsets[0], start, start + len(word))


def last_place(answers: Sequence[str], word: str) -> tuple[int, int] | None:
    """(answer, character) of the last whole-word occurrence in a list of answers; None if there is none."""
    whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    for number in reversed(range(len(answers))):
        if found := list(whole.finditer(answers[number])):
            return number, found[-1].start()
    return None


def side_by_side(pictures: Mapping[str, Image.Image], gap: int = 8) -> Image.Image:
    """Pictures in a row on white, each under its caption."""
    font = ImageFont.load_default(14)
    column = max(150, *(picture.width for picture in pictures.values()))
    height = max(picture.height for picture in pictures.values())
    strip = Image.new("RGB", (len(pictures) * (column + gap) - gap, _CAPTION + height), "white")
    draw = ImageDraw.Draw(strip)
    for i, (caption, picture) in enumerate(pictures.items()):
        x = i * (column + gap)
        while len(caption) > 1 and draw.textlength(caption, font) > column:
            caption = caption[:-2] + "…"
        draw.text((x, 3), caption, fill="black", font=font)
        strip.paste(picture, (x, _CAPTION))
    return strip
