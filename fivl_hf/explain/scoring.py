"""The scores of a batch of rows, from one pass of the model.

Shapes: P attention maps, L layers, H heads, N visual tokens, M masks (an expression's own, and another image's).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from fivl_hf.explain.lens import keyword_depth
from fivl_hf.explain.measures import IOU_THRESHOLDS, MEASURES, measured_together
from fivl_hf.explain.observation import Observation, Wanted, observe
from fivl_hf.explain.other_images import OtherImage
from fivl_hf.explain.samples import Evidence, Sample
from fivl_hf.explain.scores import ExpressionScores, RowScores
from fivl_hf.explain.segmentation import segment_score
from fivl_hf.geometry import TILES, WHOLE
from fivl_hf.masks import FloatArray

__all__ = ["NO_TOKEN", "score_batch"]

NO_TOKEN = "its mask covers no token"
# Attention values that are measured at a time.
_VALUES = 1 << 25


def score_batch(
    model: Any,
    samples: Sequence[Sample],
    images: Sequence[str],
    others: Sequence[OtherImage],
    *,
    without_sinks: bool = False,
    by_token: bool = False,
) -> list[RowScores]:
    """Score rows that were encoded together.

    Args:
        samples: of one batch (:func:`fivl_hf.explain.samples.prepare_batch`).
        images: digest of each row's images.
        others: another image for each.
        without_sinks: leave visual sink tokens out of the attention that is measured.
        by_token: measure while each token of an expression is written, then average.
    """
    spans = [[_spans(evidence, by_token) for evidence in sample.evidence] for sample in samples]
    keywords = [_keywords(sample, other) for sample, other in zip(samples, others, strict=True)]
    wanted = [
        Wanted([span for each in of_row for span in each], words) for of_row, words in zip(spans, keywords, strict=True)
    ]
    observed = observe(model, samples, wanted)
    compared: list[_Compared] = []
    rows = []
    for sample, of_row, seen, other in zip(samples, spans, observed, others, strict=True):
        attention = iter(seen.attention)
        coverages: dict[int, FloatArray | None] = {}
        places = []
        for evidence, each in zip(sample.evidence, of_row, strict=True):
            image = evidence.expression.image
            if image not in coverages:
                coverages[image] = other.coverage(sample, image)
            maps = [found for found in islice(attention, len(each)) if found is not None]
            comparisons = _comparisons(sample, evidence, maps, seen, coverages[image], without_sinks)
            places.append({name: len(compared) + i for i, name in enumerate(comparisons)})
            compared.extend(comparisons.values())
        rows.append(places)
    results = _measure(compared)
    return [
        RowScores(
            sample.id,
            image,
            tuple(
                _expression_scores(
                    evidence, seen, other, words, {name: (compared[i], results[i]) for name, i in place.items()}
                )
                for evidence, place in zip(sample.evidence, places, strict=True)
            ),
        )
        for sample, image, places, seen, other, words in zip(
            samples, images, rows, observed, others, keywords, strict=True
        )
    ]


def _spans(evidence: Evidence, by_token: bool) -> list[Any]:
    if by_token:
        return list(evidence.tokens[:, None])
    return [evidence.tokens] if len(evidence.tokens) else []


def _keywords(sample: Sample, other: OtherImage) -> list[int]:
    """Return the tokens of all keywords of a row, and of the other image's."""
    if not sample.evidence:
        return []
    words = {evidence.keyword_id for evidence in sample.evidence} | {other.keyword_id}
    return sorted(word for word in words if word is not None)


@dataclass(frozen=True)
class _Compared:
    """Attention (P, L, H, N) to be compared with coverages (M, N) of the same tokens."""

    attention: torch.Tensor
    coverage: torch.Tensor
    names: tuple[str, ...]
    """Of the measures."""


_ALL_MEASURES = (*MEASURES, "iou")
_ALL_TOKENS, _WITHOUT_SINKS = "", "without sinks"


def _comparisons(
    sample: Sample,
    evidence: Evidence,
    maps: Sequence[torch.Tensor],
    seen: Observation,
    other: FloatArray | None,
    without_sinks: bool,
) -> dict[str, _Compared]:
    """Return what an expression's attention is compared with.

    All that sees its image, by every measure; this without sinks by AUROC; each scale by Spearman's correlation.
    """
    if not maps:
        return {}
    sees = np.isfinite(evidence.coverage)
    if without_sinks:
        sees = sees & ~seen.sinks
    masks = torch.from_numpy(np.stack([evidence.coverage] + ([] if other is None else [other])))
    device = "cpu" if maps[0].device.type == "mps" else maps[0].device  # which has no float64
    attention = torch.stack(list(maps)).to(device)
    found = {_ALL_TOKENS: _chosen(attention, masks, sees, _ALL_MEASURES)}
    remaining = sees & ~seen.sinks
    if remaining.any() and not remaining[sees].all():
        found[_WITHOUT_SINKS] = _chosen(attention, masks, remaining, ("auroc",))
    for scale in sorted({TILES, WHOLE} & set(sample.scales[sees])):
        found[scale] = _chosen(attention, masks[:1], sees & (sample.scales == scale), ("spearman",))
    return found


def _chosen(attention: torch.Tensor, masks: torch.Tensor, tokens: Any, names: tuple[str, ...]) -> _Compared:
    if tokens.all():
        return _Compared(attention, masks, names)
    places = torch.from_numpy(np.flatnonzero(tokens))
    return _Compared(attention[..., places.to(attention.device)], masks[:, places], names)


def _measure(compared: Sequence[_Compared]) -> list[dict[str, FloatArray]]:
    """Return the measures (M, L, H) of each comparison, the mean over its maps; those alike in shape together."""
    alike: dict[Any, list[int]] = {}
    for number, each in enumerate(compared):
        alike.setdefault((*each.attention.shape[1:], *each.coverage.shape, each.names), []).append(number)
    results: list[dict[str, FloatArray]] = [{} for _ in compared]
    for numbers in alike.values():
        for part in _parts(compared, numbers):
            counts = [len(compared[number].attention) for number in part]
            attention = torch.cat([compared[number].attention for number in part])
            coverage = torch.cat(
                [compared[number].coverage.expand(count, -1, -1) for number, count in zip(part, counts, strict=True)]
            )
            names = compared[part[0]].names
            found = measured_together(
                attention,
                coverage,
                [name for name in names if name != "iou"],
                IOU_THRESHOLDS if "iou" in names else (),
            )
            ends = np.cumsum(counts)
            for number, start, end in zip(part, ends - counts, ends, strict=True):
                results[number] = {name: values[start:end].mean(axis=0) for name, values in found.items()}
    return results


def _parts(compared: Sequence[_Compared], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Split comparisons so that not too many values are in memory at a time."""
    part: list[int] = []
    size = 0
    for number in numbers:
        values = compared[number].attention.numel()
        if part and size + values > _VALUES:
            yield part
            part, size = [], 0
        part.append(number)
        size += values
    yield part


def _expression_scores(
    evidence: Evidence,
    seen: Observation,
    other: OtherImage,
    keywords: Sequence[int],
    results: dict[str, tuple[_Compared, dict[str, FloatArray]]],
) -> ExpressionScores:
    skipped = []
    own: dict[str, FloatArray] = {}
    control: dict[str, FloatArray] = {}
    mask_share = None
    if not results:
        skipped.append("tokens not found")
    else:
        compared, found = results[_ALL_TOKENS]
        mask_share = float(compared.coverage[0].mean())
        own = {name: values[0] for name, values in found.items()}
        if len(compared.coverage) > 1:
            control = {name: values[1] for name, values in found.items()}
        else:
            skipped.append("no other image for the control")
    everywhere = np.isfinite(evidence.coverage)
    segment, depth = None, None
    if seen.predicted is None:
        skipped.append("no visual tokens in the sequence to segment by")
    elif evidence.keyword_id is None:
        skipped.append("no keyword")
    else:
        segment = segment_score(seen.predicted[everywhere], evidence.coverage[everywhere], evidence.keyword_id)
        if segment is None:
            skipped.append(NO_TOKEN)
        if seen.lens is not None:
            another = None if other.keyword_id in (None, evidence.keyword_id) else keywords.index(other.keyword_id)
            depth = keyword_depth(seen.lens, keywords.index(evidence.keyword_id), another, evidence.coverage)
    return ExpressionScores(
        measures=own,
        controls=control,
        by_scale={scale: found["spearman"][0] for scale, (_, found) in results.items() if scale in (TILES, WHOLE)},
        auroc_without_sinks={}
        if _WITHOUT_SINKS not in results
        else _own_and_control(results[_WITHOUT_SINKS][1]["auroc"]),
        mask_share=mask_share,
        depth={} if depth is None else dict(vars(depth)),
        segment=segment,
        skipped=tuple(skipped),
    )


def _own_and_control(values: FloatArray) -> dict[str, FloatArray]:
    """Return scores (M, L, H) by name."""
    return dict(zip(("own", "control"), values, strict=False))
