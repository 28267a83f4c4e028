"""The requests of an evaluation: each question of a dataset under each condition that applies to it, made lazily."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from fivl_hf.evaluation.answerers.protocol import Request
from fivl_hf.evaluation.conditions import apply, dilated_boxes, kind_of, needs_evidence, require_conditions
from fivl_hf.evaluation.perturb import random_boxes
from fivl_hf.evaluation.questions import Question, questions
from fivl_hf.evaluation.scorers import default_suffix
from fivl_hf.files.disk_table import DiskTable
from fivl_hf.files.fingerprints import text_digest

__all__ = ["DEFAULT_CONDITIONS", "EVIDENCE", "Plan", "PlannedRequest", "planned"]

DEFAULT_CONDITIONS = ("original", "removed", "random")
EVIDENCE = ("boxes", "masks")
# Boxes of other questions that cover more of the evidence than this would remove evidence, too.
_LARGEST_SHARE = 0.1

_Boxes = tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True)
class PlannedRequest(Request):
    """A question under a condition, with what is recorded of it.

    Attributes:
        boxes: per image, the boxes that the condition hides (or keeps), in source pixels.
        others: per image, the boxes of other questions' evidence before they are grown, for the condition "other".
        overlap: share of the random boxes' area that lies on the evidence; 0 under the other conditions.
    """

    question: Question
    boxes: _Boxes = ()
    others: _Boxes = ()
    overlap: float = 0.0


class Plan:
    """The requests of an evaluation, in the rows' order; can be iterated over any number of times.

    Memory grows by a few bytes a question.

    Args:
        rows: raw benchmark or conversation rows; questions without evidence are asked under "original", "blank" and
            "text-only" alone.
        conditions: see :func:`fivl_hf.evaluation.conditions.apply`; "original" is always among them.
        prompt_suffix: added to every question; by default the benchmark's, by the rows' source.
        turns: see :func:`fivl_hf.evaluation.questions.questions`.
        seed: of the random boxes.
        evidence: "boxes", as the paper has it, or "masks".
        dilation: pixels by which the evidence grows on each side.

    Raises:
        RowError: a row that does not fit the schema.
        ValueError: two questions of one id, an unknown condition or kind of evidence, or a negative dilation.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        conditions: Sequence[str] = DEFAULT_CONDITIONS,
        *,
        prompt_suffix: str | None = None,
        turns: str = "first",
        seed: int = 0,
        evidence: str = "boxes",
        dilation: float = 0.0,
    ) -> None:
        if evidence not in EVIDENCE:
            raise ValueError(f"evidence must be one of {', '.join(EVIDENCE)}, got {evidence!r}")
        if dilation < 0:
            raise ValueError(f"dilation must be at least 0, got {dilation:g}")
        self.conditions = require_conditions(conditions)
        self._rows = rows if hasattr(rows, "__getitem__") else list(rows)
        self._turns = turns
        self._neighbours = DiskTable()
        self.source = ""
        self.count = self._look_over()
        """Requests at most: "other" is not for every question."""
        suffix = default_suffix(self.source) if prompt_suffix is None else prompt_suffix
        self._how: dict[str, Any] = {
            "suffix": suffix,
            "seed": seed,
            "masks": evidence == "masks",
            "dilation": dilation,
        }

    def __iter__(self) -> Iterator[PlannedRequest]:
        for question in questions(self._rows, self._turns):
            for condition in self.conditions:
                if question.has_evidence or not needs_evidence(condition):
                    about_others = kind_of(condition) == "other"
                    others = self._others(question) if about_others else None
                    if others or not about_others:
                        yield planned(question, condition, others=others, **self._how)

    def _look_over(self) -> int:
        """Check that ids are unique, keep what lies on each image, and return how many requests there are at most."""
        count, ids, for_all = 0, DiskTable(), sum(not needs_evidence(name) for name in self.conditions)
        for question in questions(self._rows, self._turns):
            self.source = self.source or question.source
            if question.id in ids:
                raise ValueError(f"the id {question.id!r} belongs to several questions: ids must be unique")
            ids.put(question.id)
            count += len(self.conditions) if question.has_evidence else for_all
            if "other" in map(kind_of, self.conditions):
                known = self._neighbours.get(question.picture) or []
                self._neighbours.put(question.picture, [*known, [question.id, question.evidence]])
        return count

    def _others(self, question: Question) -> tuple[list[Sequence[float]], ...] | None:
        """Return, per image, the evidence of other questions about it that is not the question's own, too."""
        neighbours = [boxes for id, boxes in self._neighbours.get(question.picture) if id != question.id]
        by_image: list[list[Sequence[float]]] = []
        for image, (own, size) in enumerate(zip(question.evidence, question.sizes, strict=True)):
            boxes = [box for each in neighbours for box in each[image]]
            grown, evidence = (dilated_boxes(each, size, self._how["dilation"]).tolist() for each in (boxes, own))
            apart = [_share_inside(box, evidence) <= _LARGEST_SHARE for box in grown]
            by_image.append([box for box, far in zip(boxes, apart, strict=True) if far])
        return tuple(by_image) if any(by_image) else None


def planned(
    question: Question,
    condition: str,
    *,
    suffix: str = "",
    seed: int = 0,
    masks: bool = False,
    dilation: float = 0.0,
    others: Sequence[ArrayLike] | None = None,
) -> PlannedRequest:
    """Make the request of a question under a condition: a pure function of its row and the seed.

    Args:
        suffix: added to the question.
        masks: hide masks, not boxes.
        dilation: pixels by which the evidence grows on each side.
        others: per image, the boxes of other questions' evidence, for the condition "other".
    """
    # Of the id, so that random boxes do not depend on the questions beside it.
    seeds = [(seed, text_digest(question.id), image) for image in range(len(question.sizes))]
    grown = [
        dilated_boxes(boxes, size, dilation) for boxes, size in zip(question.evidence, question.sizes, strict=True)
    ]
    hidden: Sequence[ArrayLike] = grown if needs_evidence(condition) else []
    overlap = 0.0
    if kind_of(condition) == "random":
        placed = [
            random_boxes(boxes.tolist(), size, each)
            for boxes, size, each in zip(grown, question.sizes, seeds, strict=True)
        ]
        overlaps = [each.overlap for each in placed if len(each.boxes)]
        hidden, overlap = [each.boxes for each in placed], float(np.mean(overlaps)) if overlaps else 0.0
    elif kind_of(condition) == "other" and others:
        hidden = [dilated_boxes(boxes, size, dilation) for boxes, size in zip(others, question.sizes, strict=True)]
    return PlannedRequest(
        id=question.id,
        condition=condition,
        messages=_with_suffix(question.messages, suffix),
        image_count=0 if condition == "text-only" else len(question.sizes),
        open_images=partial(_shown, question, condition, others or (), seeds, masks, dilation),
        question=question,
        boxes=tuple(map(_box_list, hidden)),
        others=tuple(map(_box_list, others or ())),
        overlap=overlap,
    )


def _shown(
    question: Question,
    condition: str,
    others: Sequence[ArrayLike],
    seeds: Sequence[tuple[int, int, int]],
    masks: bool,
    dilation: float,
) -> list[Image.Image]:
    """Return a question's images as a condition shows them; none for "text-only"."""
    if condition == "text-only":
        return []
    images = question.images()
    regions = question.regions() if masks and needs_evidence(condition) else [None] * len(images)
    shown = (
        apply(condition, image, boxes, seed, mask=mask, other=other, dilation=dilation)
        for image, boxes, seed, mask, other in zip(
            images, question.evidence, seeds, regions, others or [()] * len(images), strict=True
        )
    )
    return [image for image in shown if image is not None]


def _with_suffix(messages: Sequence[Mapping[str, str]], suffix: str) -> tuple[Mapping[str, str], ...]:
    *before, last = messages
    return (*before, {**last, "content": last["content"] + suffix})


def _box_list(boxes: ArrayLike) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, np.asarray(boxes, dtype=np.float64).reshape(-1, 4).tolist()))


def _share_inside(box: Sequence[float], others: Sequence[Sequence[float]]) -> float:
    """Return the largest share of a box that lies in one of the others."""
    area = max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)
    shares = [
        max(0.0, min(box[2], each[2]) - max(box[0], each[0])) * max(0.0, min(box[3], each[3]) - max(box[1], each[1]))
        for each in others
    ]
    return max(shares, default=0.0) / area
