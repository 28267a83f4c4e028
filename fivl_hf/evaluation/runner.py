"""Asking a model every question under several conditions: original, evidence removed, random boxes, ..."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from fivl_hf.evaluation.answer import GenerationRequest, generate_answers
from fivl_hf.evaluation.conditions import apply, needs_evidence, require_conditions
from fivl_hf.evaluation.perturb import random_boxes
from fivl_hf.evaluation.questions import Question, questions
from fivl_hf.evaluation.scorers import Scorer, default_scorer, default_suffix, scorer
from fivl_hf.evaluation.summary import rescored, summarize
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, Answer, AnswerTable

__all__ = ["DEFAULT_CONDITIONS", "Answers", "evaluate_answers", "evaluate_reliance", "model_answers"]

DEFAULT_CONDITIONS = (ORIGINAL, REMOVED, RANDOM)
_TITLES = {ORIGINAL: "original images", REMOVED: "evidence removed", RANDOM: "random boxes"}
# Boxes of other questions that cover more of the evidence than this would remove evidence, too.
_LARGEST_SHARE = 0.1

Answers = Callable[[Sequence[GenerationRequest], str], Iterator[tuple[int, str]]]


def evaluate_reliance(
    model: Any,
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 32,
    **options: Any,
) -> tuple[dict[str, Any], AnswerTable]:
    """Ask a transformers model every question under each condition and score the answers.

    Args:
        rows: raw benchmark or conversation rows; questions without evidence count for accuracy only.
        options: those of :func:`evaluate_answers`.

    Returns, raises: as :func:`evaluate_answers`.
    """
    answer = model_answers(model, processor, batch_size=batch_size, max_new_tokens=max_new_tokens)
    return evaluate_answers(answer, rows, **options)


def model_answers(model: Any, processor: Any, *, batch_size: int, max_new_tokens: int) -> Answers:
    """Return what asks a transformers model, as :func:`evaluate_answers` takes it."""

    def answer(requests: Sequence[GenerationRequest], description: str) -> Iterator[tuple[int, str]]:
        return generate_answers(
            model,
            processor,
            requests,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            description=description,
        )

    return answer


def evaluate_answers(
    answer: Answers,
    rows: Iterable[Mapping[str, Any]],
    *,
    table: AnswerTable | None = None,
    conditions: Sequence[str] = DEFAULT_CONDITIONS,
    scorer_name: str | None = None,
    prompt_suffix: str | None = None,
    turns: str = "first",
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[dict[str, Any], AnswerTable]:
    """Ask every question under each condition and score the answers.

    Args:
        answer: takes (messages, function that opens the images) pairs and a description for the progress bar; yields
            number and answer of each pair, in any order. A pair may get none; it is asked again by the next run.
        rows: raw benchmark or conversation rows; questions without evidence count for accuracy only.
        table: answers that are known already are not asked for again, new ones are added as they come.
        conditions: see :func:`fivl_hf.evaluation.conditions.apply`; "original" is always among them.
        scorer_name: see :func:`fivl_hf.evaluation.scorers.scorer`; by default the benchmark's, by the rows' source.
        prompt_suffix: added to every question; by default the benchmark's, by the rows' source.
        turns: see :func:`fivl_hf.evaluation.questions.questions`.
        seed: of the random boxes and the bootstrap.
        resamples: bootstrap resamples of the pictures.

    Returns:
        The summary (:func:`fivl_hf.evaluation.summary.summarize`) and the table.

    Raises:
        RowError: a row that does not fit the schema.
        ValueError: two questions of one id, an unknown condition or scorer.
    """
    table = AnswerTable() if table is None else table
    names = require_conditions(conditions)
    listed = list(questions(rows, turns))
    repeated = [id for id, count in Counter(question.id for question in listed).items() if count > 1]
    if repeated:
        raise ValueError(f"{len(repeated):,} ids belong to several questions, such as {repeated[0]!r}")
    source = listed[0].source if listed else ""
    chosen_scorer = scorer_name or default_scorer(source)
    suffix = default_suffix(source) if prompt_suffix is None else prompt_suffix
    score = scorer(chosen_scorer)
    others = _other_boxes(listed) if "other" in names else {}
    for condition in names:
        requests = [
            request
            for request in _requests(listed, condition, seed, others)
            if (request.question.id, condition) not in table
        ]
        pairs = [(_messages(request.question, suffix), partial(_images, request)) for request in requests]
        for number, text in answer(pairs, _TITLES.get(condition, condition)):
            table.add([_scored(requests[number], text, score)])
    # Answers of an earlier run may have been scored by another scorer.
    scored = rescored(table, chosen_scorer)
    summary = summarize(scored, scorer_name=chosen_scorer, seed=seed, resamples=resamples)
    for name in names:
        # "other" is about questions whose image has other evidence: there may be none.
        summary["conditions"].setdefault(name, {"n": 0, "reason": "it is for none of the questions"})
    return summary, table


@dataclass(frozen=True)
class _Request:
    """A question under a condition.

    Attributes:
        seeds: of the condition, for each image.
        hidden: for each image, the boxes that the condition is about, as they are recorded.
        overlap: share of random boxes' area that is on the evidence.
    """

    question: Question
    condition: str
    seeds: tuple[tuple[int, int, int], ...]
    hidden: tuple[ArrayLike, ...] = ()
    overlap: float = 0.0


def _requests(
    listed: Sequence[Question], condition: str, seed: int, others: Mapping[str, tuple[ArrayLike, ...]]
) -> Iterable[_Request]:
    """Yield the questions that a condition is for; the n-th question with evidence has the n-th random boxes."""
    if not needs_evidence(condition):
        for question in listed:
            yield _Request(question, condition, _seeds(question, seed, 0))
        return
    for number, question in enumerate(question for question in listed if question.has_evidence):
        seeds, overlap = _seeds(question, seed, number), 0.0
        hidden: tuple[ArrayLike, ...] = question.evidence
        if condition == RANDOM:
            placed = [
                random_boxes(boxes, size, each)
                for boxes, size, each in zip(question.evidence, question.sizes, seeds, strict=True)
            ]
            overlaps = [each.overlap for each in placed if len(each.boxes)]
            hidden, overlap = tuple(each.boxes for each in placed), float(np.mean(overlaps)) if overlaps else 0.0
        elif condition == "other":
            if question.id not in others:
                continue
            hidden = others[question.id]
        yield _Request(question, condition, seeds, hidden, overlap)


def _seeds(question: Question, seed: int, number: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((seed, number, image) for image in range(len(question.sizes)))


def _messages(question: Question, suffix: str) -> tuple[dict[str, str], ...]:
    *before, last = question.messages
    return (*before, {**last, "content": last["content"] + suffix})


def _images(request: _Request) -> list[Image.Image]:
    """Return a question's images as its condition shows them; none for "text-only"."""
    question, condition = request.question, request.condition
    if condition == "text-only":
        return []
    images = question.images()
    hidden: Sequence[ArrayLike] = request.hidden or [()] * len(images)
    shown = (
        apply(condition, image, boxes, seed, other=other if condition == "other" else ())
        for image, boxes, seed, other in zip(images, question.evidence, request.seeds, hidden, strict=True)
    )
    return [image for image in shown if image is not None]


def _other_boxes(listed: Sequence[Question]) -> dict[str, tuple[ArrayLike, ...]]:
    """Find, for each question, the evidence of other questions about the same pictures that is not its own, too."""
    by_picture: dict[str, list[Question]] = defaultdict(list)
    for question in listed:
        by_picture[question.picture].append(question)
    found: dict[str, tuple[ArrayLike, ...]] = {}
    for question in (question for question in listed if question.has_evidence):
        neighbours = [each for each in by_picture[question.picture] if each.id != question.id]
        boxes = tuple(
            [box for each in neighbours for box in each.evidence[image] if _share_inside(box, own) <= _LARGEST_SHARE]
            for image, own in enumerate(question.evidence)
        )
        if any(boxes):
            found[question.id] = boxes
    return found


def _share_inside(box: Sequence[float], others: Sequence[Sequence[float]]) -> float:
    """Return the largest share of a box that lies in one of the others."""
    area = max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)
    shares = [
        max(0.0, min(box[2], each[2]) - max(box[0], each[0])) * max(0.0, min(box[3], each[3]) - max(box[1], each[1]))
        for each in others
    ]
    return max(shares, default=0.0) / area


def _scored(request: _Request, answer: str, score: Scorer) -> Answer:
    question = request.question
    value = score(answer, question.answers)
    return Answer(
        id=question.id,
        condition=request.condition,
        question=question.messages[-1]["content"],
        references=question.answers,
        answer=answer,
        score=value or 0.0,
        category=question.category,
        has_evidence=question.has_evidence,
        boxes=tuple(_box_list(boxes) for boxes in request.hidden),
        overlap=request.overlap,
        parsed=value is not None,
        picture=question.picture,
    )


def _box_list(boxes: ArrayLike) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, np.asarray(boxes, dtype=np.float64).reshape(-1, 4).tolist()))
