"""Segmentation as the paper measured it: a detector is prompted with the words that the visual tokens predict.

Shapes: N visual tokens of a sample, H × W pixels of an image.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fivl_hf.bootstrap import clustered_mean_interval, sums_and_counts
from fivl_hf.explain.observation import vision_predictions
from fivl_hf.explain.samples import Sample
from fivl_hf.explain.segmentation import segment_iou
from fivl_hf.files.appended import AppendedLines
from fivl_hf.keywords import is_content_word
from fivl_hf.masks import BoolArray, coverage

__all__ = [
    "PredictedSegment",
    "PromptedScores",
    "SegmentFile",
    "SegmentFinder",
    "WordScore",
    "predicted_segments",
    "prompted_summary",
    "score_segments",
]


class SegmentFinder(Protocol):
    """Finds words in an image, once for each of its thresholds; a threshold is None for one that needs none."""

    @property
    def thresholds(self) -> Sequence[float | None]: ...

    def find(self, row_id: str, image: Image.Image, words: Sequence[str]) -> list[list[BoolArray | None]]:
        """Return, for each threshold and word, a mask (H, W), or None where nothing is detected."""
        ...


@dataclass(frozen=True)
class PredictedSegment:
    """The visual tokens of one image that predict one word, in any spelling: (N,) bool over the sample's tokens."""

    image: int
    word: str
    tokens: NDArray[np.bool_]


@dataclass(frozen=True)
class WordScore:
    """A predicted word, with one IoU per threshold: its tokens against those that the detected mask covers.

    None stands for no detection.
    """

    word: str
    iou: tuple[float | None, ...]


@dataclass(frozen=True)
class PromptedScores:
    """The scores of one row.

    Attributes:
        different_tokens: number of different tokens predicted.
        left_out: how many of them no detector is prompted with, by reason.
        problem: why the row has no scores.
    """

    id: str
    different_tokens: int = 0
    words: tuple[WordScore, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None


def predicted_segments(model: Any, tokenizer: Any, sample: Sample) -> tuple[list[PredictedSegment], Counter[str], int]:
    """Group a sample's visual tokens by the word that they predict.

    Returns:
        The segments, the largest first; different tokens left out, by reason; the number of different tokens.

    Raises:
        ValueError: the model's visual tokens do not predict (cross-attention).
    """
    predicted = vision_predictions(model, sample)
    if predicted is None:
        raise ValueError("the model's visual tokens do not stand in the sequence, so they predict no token")
    left_out: Counter[str] = Counter()
    members: dict[str, list[int]] = {}
    different, special = np.unique(predicted).tolist(), set(tokenizer.all_special_ids)
    for token in different:
        word = tokenizer.decode([token]).strip()
        if reason := _left_out(word, token in special):
            left_out[reason] += 1
        else:
            members.setdefault(word.casefold(), []).append(token)
    segments = [
        PredictedSegment(image, word, tokens)
        for word, ids in members.items()
        for image in range(len(sample.images))
        if (tokens := np.isin(predicted, ids) & (sample.image_of == image)).any()
    ]
    return sorted(segments, key=lambda segment: -int(segment.tokens.sum())), left_out, len(different)


def _left_out(word: str, special: bool) -> str:
    """Return why no detector is asked for a word, or ""."""
    if special:
        return "special token"
    # In scripts without spaces, one letter can be a word.
    if not any(map(str.isalpha, word)) or (len(word) == 1 and word.isascii()):
        return "not a word"
    return "" if is_content_word(word) else "function word"


def score_segments(
    sample: Sample, segments: Sequence[PredictedSegment], finder: SegmentFinder
) -> tuple[tuple[WordScore, ...], list[list[BoolArray | None]]]:
    """Compare predicted segments with what a finder finds for their words in the same image.

    Returns:
        A score for each segment, and for each the masks found at each threshold.
    """
    masks: list[list[BoolArray | None]] = [[] for _ in segments]
    for number, image in enumerate(sample.images):
        places = [i for i, segment in enumerate(segments) if segment.image == number]
        words = [segments[i].word for i in places]
        for masks_of_words in finder.find(sample.id, image, words) if places else ():
            for i, mask in zip(places, masks_of_words, strict=True):
                masks[i].append(mask)
    scores = [
        WordScore(segment.word, tuple(_iou(segment, mask, sample) for mask in masks_of_segment))
        for segment, masks_of_segment in zip(segments, masks, strict=True)
    ]
    return tuple(scores), masks


def _iou(segment: PredictedSegment, mask: BoolArray | None, sample: Sample) -> float | None:
    if mask is None:
        return None
    covered = (coverage(mask[None], sample.boxes)[0] > 0) & (sample.image_of == segment.image)
    return segment_iou(segment.tokens, covered)


class SegmentFile:
    """A JSON Lines file to which rows' scores are appended as they come.

    Raises:
        ValueError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._file = AppendedLines(path, "a row's segments", read=_unpacked, write=_packed)
        self.known = {scores.id for scores in self._file if scores.problem is None}

    def __iter__(self) -> Iterator[PromptedScores]:
        """Yield the scores of every row; of a row tried again, the last ones."""
        yield from {scores.id: scores for scores in self._file}.values()

    def add(self, scores: PromptedScores) -> None:
        """Append a row's scores."""
        self._file.append([scores])
        self.known.add(scores.id)


def _packed(scores: PromptedScores) -> dict[str, Any]:
    return {**vars(scores), "words": [[each.word, list(each.iou)] for each in scores.words]}


def _unpacked(raw: dict[str, Any]) -> PromptedScores:
    words = tuple(WordScore(str(word), tuple(iou)) for word, iou in raw["words"])
    return PromptedScores(**{**raw, "words": words})


def prompted_summary(rows: Iterable[PromptedScores], thresholds: Sequence[float | None]) -> dict[str, Any]:
    """Sum rows up as the paper's table does.

    Returns:
        ``n`` rows scored; ``tokens_per_sample`` different tokens predicted, ``words_per_sample`` of them (spellings
        taken together) that a detector is asked for; ``left_out``, the others by reason; ``problems``, of the rows
        left out; and for each threshold, under its number or "exact", ``iou`` (mean over the words with a detection,
        None without any) with its ``confidence_interval``, ``share_found`` (of the words, those with a detection) and
        ``found``.
    """
    scored, problems = [], {}
    for row in rows:
        if row.problem is None:
            scored.append(row)
        else:
            problems[row.id] = row.problem
    left_out: Counter[str] = Counter()
    for row in scored:
        left_out.update(row.left_out)
    words = sum(len(row.words) for row in scored)
    return {
        "n": len(scored),
        "tokens_per_sample": sum(row.different_tokens for row in scored) / len(scored) if scored else None,
        "words_per_sample": words / len(scored) if scored else None,
        "left_out": dict(left_out.most_common()),
        "by_threshold": {
            "exact" if threshold is None else f"{threshold:g}": _at_threshold(scored, number, words)
            for number, threshold in enumerate(thresholds)
        },
        "problems": problems,
    }


def _at_threshold(rows: Sequence[PromptedScores], number: int, words: int) -> dict[str, Any]:
    sums, counts = sums_and_counts(
        [value for word in row.words if (value := word.iou[number]) is not None] for row in rows
    )
    found = int(counts.sum())
    return {
        "iou": float(sums.sum() / found) if found else None,
        "confidence_interval": clustered_mean_interval(sums, counts) if found else None,
        "share_found": found / words if words else None,
        "found": found,
    }
