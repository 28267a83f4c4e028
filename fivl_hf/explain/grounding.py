"""Grounding by attention: the box at which a model looks while it writes a phrase. No training, no masks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fivl_hf.bootstrap import clustered_mean_interval, sums_and_counts
from fivl_hf.explain.head_sets import score_heads
from fivl_hf.explain.knockout import Head, require_heads
from fivl_hf.explain.localization import (
    SUMMED,
    attention_maps,
    expression_attention,
    expression_maps,
    locate,
    votes_among,
)
from fivl_hf.explain.observation import token_attention
from fivl_hf.explain.pictures import word_tokens
from fivl_hf.explain.samples import Evidence, Sample, prepare
from fivl_hf.images import image_bytes, rgb
from fivl_hf.masks import box_iou

__all__ = ["Grounding", "compare_boxes", "ground"]

# The IoU from which a box counts as right.
_RIGHT = 0.5
_SCATTERED = "no head's attention is concentrated on one spot"


@dataclass(frozen=True)
class Grounding:
    """The box at which some heads look together.

    Attributes:
        box: (x0, y0, x1, y1) in pixels of the image; None where their attention is even.
        heads: (layer, head) of each.
    """

    box: tuple[float, float, float, float] | None
    heads: tuple[Head, ...]


def ground(
    model: Any, processor: Any, image: Image.Image, phrase: str, heads: Sequence[Head] | None = None
) -> Grounding:
    """Find a phrase in an image by the model's attention while it writes the phrase.

    Args:
        model: a transformers vision-language model, or an adapter of one.
        phrase: such as "the red ring".
        heads: that are looked at; the localization heads of this image if not given.

    Raises:
        ValueError: an empty phrase, one whose tokens are not found, a head that the model does not have, or no head
            whose attention is concentrated on a spot.
    """
    if not phrase.strip():
        raise ValueError("a phrase to look for is needed")
    if marks := [mark for mark in processor.tokenizer.all_special_tokens if mark in phrase]:
        raise ValueError(f"the phrase holds {marks[0]!r}, which has a meaning of its own for the model")
    require_heads(model, heads or ())
    row = {
        "id": "image",
        "images": [{"bytes": image_bytes(rgb(image)), "path": None}],
        "messages": [
            {"role": "user", "content": f"Where is {phrase}?"},
            {"role": "assistant", "content": phrase},
        ],
        "key_expressions": [],
        "masks": [],
        "source": "",
    }
    sample = prepare(model, processor, row)
    (attention,) = token_attention(model, sample, [word_tokens(sample, phrase)])
    if attention is None:
        raise ValueError(f"the tokens of {phrase!r} were not found in what the model reads")
    maps = attention_maps(attention, sample.boxes, image.size)
    if not heads:
        votes = votes_among(len(maps))
        votes.add(maps)
        heads = votes.ranked()[:SUMMED]
        if not heads:
            raise ValueError(f"{_SCATTERED}: name the heads to look at")
    chosen = tuple(heads)
    return Grounding(locate(np.stack([maps[head] for head in chosen]), image.size), chosen)


def compare_boxes(
    model: Any, choosing: Iterable[Sample], measuring: Iterable[tuple[str, Sample]], count: int = SUMMED
) -> dict[str, Any]:
    """Compare the boxes of localization heads, of heads chosen by masks, and of all heads, on held-out rows.

    Args:
        choosing: samples that heads are chosen on.
        measuring: samples about other images, each with its image's digest.
        count: heads whose maps are added up.

    Returns:
        Of each way, "localization heads", "heads by masks" and "all heads": ``heads`` (but of all), ``iou`` (mean with
        the box of the expression's mask) and ``accuracy_at_0.5``, each with a ``confidence_interval`` over images, and
        ``n`` expressions; or a ``reason``, where there are no localization heads.

    Raises:
        ValueError: no sample with an expression to choose or to measure on.
    """
    scores = score_heads(model, ([sample] for sample in choosing))
    ways: dict[str, list[Head]] = {
        "localization heads": scores.ranked("localization")[:count],
        "heads by masks": scores.ranked("aligned")[:count],
        "all heads": scores.ranked("aligned"),
    }
    ious: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    for image, sample in measuring:
        for _, evidence, attention in expression_attention(model, [sample]):
            if not evidence.mask.any():
                continue
            each = expression_maps(sample, evidence, attention)
            size = sample.images[evidence.expression.image].size
            for name, heads in ((name, heads) for name, heads in ways.items() if heads):
                box = locate(np.stack([each[head] for head in heads]), size)
                ious[name].setdefault(image, []).append(_iou_with_mask(box, evidence))
    if not any(ious["all heads"].values()):
        raise ValueError("none of the rows to measure on has a key expression in its answers")
    return {
        name: {"reason": _SCATTERED}
        if not heads
        else {
            **({} if name == "all heads" else {"heads": [list(head) for head in heads]}),
            "iou": _mean(list(ious[name].values())),
            "accuracy_at_0.5": _mean([[float(iou >= _RIGHT) for iou in each] for each in ious[name].values()]),
            "n": sum(map(len, ious[name].values())),
        }
        for name, heads in ways.items()
    }


def _iou_with_mask(box: tuple[float, ...] | None, evidence: Evidence) -> float:
    if box is None:
        return 0.0
    rows, columns = np.nonzero(evidence.mask)
    truth = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return float(box_iou([box], [truth])[0, 0])


def _mean(by_image: Sequence[Sequence[float]]) -> dict[str, Any]:
    sums, counts = sums_and_counts(by_image)
    interval: list[Any] = clustered_mean_interval(sums, counts) or [None, None]
    return {"value": float(sums.sum() / counts.sum()), "confidence_interval": interval}
