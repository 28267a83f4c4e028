"""Rendering the page of ``fivl explore``: HTML for a question and the reader's choices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fivl_hf.explain.localization import attention_maps, located_parts
from fivl_hf.explore.examples import Example
from fivl_hf.explore.explorer import CHANGES, Answered, Box, Change, Explorer
from fivl_hf.show.drawing import PALETTE, enlarge, frame_boxes, outline_masks
from fivl_hf.show.pages import picture_url, render_page
from fivl_hf.show.plots import overlay_tokens

__all__ = ["MEAN_OF_HEADS", "Asked", "Choices", "render_answers"]

MEAN_OF_HEADS = -1
_SIDE = 420
# Boxes at which a head points, at most.
_PARTS = 3
_PREDICTS_NOTHING = "This model's visual tokens are not part of the token sequence, so they predict nothing."


@dataclass(frozen=True)
class Asked:
    """A question that every model has answered.

    Attributes:
        answers: of each model.
        example: the dataset's row it comes from; None for the reader's own.
    """

    answers: tuple[Answered, ...]
    example: Example | None = None


@dataclass(frozen=True)
class Choices:
    """The reader's choices.

    Attributes:
        words: of each model's answer, which word; the last of a key expression, or of all, if not chosen.
        layer: of attention and predictions.
        head: of attention; -1 for the mean of the layer's heads.
        patch: (x, y) in pixels of the image; None if none was clicked.
        box: that was drawn; the evidence of the question if none was.
        how: what becomes of the box.
        compare_random: whether to compare with random boxes.
    """

    words: Mapping[int, int] = field(default_factory=dict)
    layer: int = 0
    head: int = MEAN_OF_HEADS
    patch: tuple[float, float] | None = None
    box: Box | None = None
    how: Change = "black out"
    compare_random: bool = False

    @classmethod
    def read(cls, raw: Mapping[str, Any], asked: Asked, explorers: Sequence[Explorer]) -> "Choices":
        """Read choices as the page's script sends them.

        Raises:
            ValueError, TypeError, KeyError: choices that the script does not send.
        """
        size = asked.answers[0].image.size
        most, layers = max(each.heads for each in explorers), max(each.layers for each in explorers)
        how = raw.get("how") or "black out"
        if how not in CHANGES:
            raise ValueError(f"a box is changed by {', '.join(CHANGES)}, got {how!r:.40}")
        patch = raw.get("patch")
        return cls(
            {int(model): int(word) for model, word in (raw.get("words") or {}).items()},
            min(max(int(raw["layer"]), 0), layers - 1),
            min(max(int(raw["head"]), MEAN_OF_HEADS), most - 1),
            (float(patch[0]), float(patch[1])) if patch else None,
            _box(raw["box"], size) if raw.get("box") else None,
            how,
            bool(raw.get("compareRandom")),
        )


def _box(raw: Sequence[float], size: tuple[int, int]) -> Box:
    """Return a box cut to the image; at least a pixel."""
    x0, y0, x1, y1 = (float(side) for side in raw)
    x0, y0 = min(max(x0, 0), size[0] - 1), min(max(y0, 0), size[1] - 1)
    return x0, y0, min(max(x1, x0 + 1), size[0]), min(max(y1, y0 + 1), size[1])


def render_answers(explorers: Sequence[Explorer], asked: Asked, choices: Choices) -> str:
    """Return the part of the page below the question: a column for each model."""
    boxes = (choices.box,) if choices.box else (asked.example.boxes if asked.example else ())
    image = asked.answers[0].image
    return render_page(
        "explore_answers.html.jinja",
        reference=asked.example.reference if asked.example else "",
        note=asked.example.note if asked.example else "",
        question=asked.answers[0].question,
        photo=picture_url(enlarge(image, _SIDE)),
        width=image.width,
        height=image.height,
        boxes=boxes,
        is_drawn=choices.box is not None,
        patch=choices.patch,
        columns=[
            _column(explorer, answered, asked.example, number, choices, boxes)
            for number, (explorer, answered) in enumerate(zip(explorers, asked.answers, strict=True))
        ],
        how=choices.how,
        changes=CHANGES,
        compare_random=choices.compare_random,
    )


def _column(
    explorer: Explorer,
    answered: Answered,
    example: Example | None,
    number: int,
    choices: Choices,
    boxes: tuple[Box, ...],
) -> dict[str, Any]:
    """Return the values for one model."""
    layer = min(choices.layer, explorer.layers - 1)
    head = min(choices.head, explorer.heads - 1)
    word = _word(answered, example, choices.words.get(number))
    column: dict[str, Any] = {
        "number": number,
        "name": explorer.name,
        "words": [{"text": each.text, "probability": float(np.exp(each.log_probability))} for each in answered.words],
        "word": word,
        "layer": layer,
        "head": head,
        "attention": None,
        "mask": None,
        "predictions": None,
        "changed": None,
        "reliance": None,
    }
    if word is not None:
        column.update(_attention(answered, word, layer, head))
        mask = example.mask_of(answered, word) if example else None
        column["mask"] = picture_url(outline_masks(answered.image, [mask], side=_SIDE)) if mask is not None else None
    if choices.patch:
        column["predictions"] = _predictions(explorer, answered, choices.patch, layer)
    if boxes:
        column["changed"] = _changed(explorer, answered, boxes, choices.how)
        column["reliance"] = explorer.reliance(answered, boxes) if choices.compare_random else None
    return column


def _word(answered: Answered, example: Example | None, chosen: int | None) -> int | None:
    """Return the word whose attention is shown."""
    if not answered.words:
        return None
    if chosen is not None and 0 <= chosen < len(answered.words):
        return chosen
    last = len(answered.words) - 1
    of_expressions = (word for word in range(last, -1, -1) if example and example.mask_of(answered, word) is not None)
    return next(of_expressions, last)


def _attention(answered: Answered, word: int, layer: int, head: int) -> dict[str, Any]:
    """Return the picture of attention, and the boxes at which it points."""
    of_layer = answered.attention[word][layer].astype(np.float64)
    values = of_layer.mean(axis=0) if head == MEAN_OF_HEADS else of_layer[head]
    if not np.isfinite(values).all():
        return {"attention": None, "located": None, "share": None}
    picture = overlay_tokens(answered.image, values, answered.sample.boxes, side=_SIDE)
    size = answered.image.size
    located = located_parts([attention_maps(values, answered.sample.boxes, size)], size, _PARTS)
    scaled = np.array(located).reshape(-1, 4) * (picture.width / answered.image.width)
    framed = frame_boxes(picture, scaled.tolist(), PALETTE[1], _SIDE)
    return {"attention": picture_url(framed), "located": located, "share": float(values.sum())}


def _predictions(
    explorer: Explorer, answered: Answered, patch: tuple[float, float], layer: int
) -> list[tuple[str, float]] | str:
    """Return what the clicked patch predicts after a layer, or why nothing can be said."""
    token = answered.token_at(*patch)
    if token is None:
        return "No visual token sees this place."
    every = explorer.predictions(answered, token)
    return every[layer] if every else _PREDICTS_NOTHING


def _changed(explorer: Explorer, answered: Answered, boxes: tuple[Box, ...], how: Change) -> dict[str, Any]:
    """Return the answer about the changed image, and what the first answer's words are worth there."""
    changed = explorer.changed(answered, boxes, how)
    words = [
        {
            "text": word.text,
            "before": float(np.exp(word.log_probability)),
            "after": float(np.exp(after)),
            "change": after - word.log_probability,
        }
        for word, after in zip(answered.words, changed.log_probabilities, strict=True)
    ]
    return {
        "picture": picture_url(enlarge(changed.image, _SIDE)),
        "answer": changed.answer,
        "stays": changed.answer == answered.answer,
        "words": words,
        "total": sum(word["change"] for word in words),
    }
