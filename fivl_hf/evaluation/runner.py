"""Measuring a model's visual reliance: original, evidence blacked out, random boxes blacked out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from fivl_hf.evaluation.answer import generate_answers
from fivl_hf.evaluation.perturb import RandomBoxes, black_out, random_boxes
from fivl_hf.evaluation.questions import Question, questions
from fivl_hf.evaluation.reliance import visual_reliance_score
from fivl_hf.evaluation.scoring import exact_match
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, Answer, AnswerTable, by_question

__all__ = ["evaluate_reliance", "summarize"]

_TITLES = {ORIGINAL: "Original images", REMOVED: "Evidence masked", RANDOM: "Random boxes masked"}
# More of the random boxes than this on the evidence, and the control takes evidence away, too.
_LARGEST_OVERLAP = 0.1
_CATEGORIES = 50
_OTHER = "other"


def evaluate_reliance(
    model: Any,
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    table: AnswerTable | None = None,
    turns: str = "first",
    batch_size: int = 16,
    max_new_tokens: int = 32,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[dict[str, Any], AnswerTable]:
    """Ask every question under three conditions and score the answers.

    Args:
        rows: raw benchmark or conversation rows; questions without evidence count for accuracy only.
        table: answers that are known already are not asked for again, new ones are added as they come.
        turns: see :func:`fivl_hf.evaluation.questions.questions`.
        seed: of the random boxes and the bootstrap.

    Returns:
        The summary (:func:`summarize`) and the table.

    Raises:
        RowError: a row that does not fit the schema.
        ValueError: two questions of one id.
    """
    table = AnswerTable() if table is None else table
    asked = list(questions(rows, turns))
    repeated = [id for id, count in Counter(question.id for question in asked).items() if count > 1]
    if repeated:
        raise ValueError(f"{len(repeated):,} ids belong to several questions, such as {repeated[0]!r}")
    evident = [question for question in asked if question.has_evidence]
    nowhere: list[RandomBoxes] = []
    plan = {
        ORIGINAL: [(question, nowhere) for question in asked],
        REMOVED: [(question, [RandomBoxes(np.asarray(b), 0.0) for b in question.evidence]) for question in evident],
        RANDOM: [(question, _random_boxes(question, (seed, number))) for number, question in enumerate(evident)],
    }
    for condition, wanted in plan.items():
        missing = [(question, hidden) for question, hidden in wanted if (question.id, condition) not in table]
        requests = [(question.messages, partial(_images, question, hidden)) for question, hidden in missing]
        answers = generate_answers(
            model,
            processor,
            requests,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            description=_TITLES[condition],
        )
        for number, answer in answers:
            table.add([_scored(*missing[number], condition, answer)])
    return summarize(table, seed=seed, resamples=resamples), table


def summarize(answers: Iterable[Answer], *, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Return the Visual Reliance Score and its control, from answers that may come from a file.

    Returns:
        The metric's result for evidence boxes, the same for random boxes (``random_*``), ``random_overlap`` (mean
        share of the random boxes' area that fell on the evidence after all; above 0.1, ``random_note`` says so),
        ``by_category`` (of at most 50 categories, the others together), and the accuracy over all questions.
    """
    options = {"seed": seed, "resamples": resamples}
    grouped = by_question(answers)
    complete = [by for by in grouped.values() if by.keys() >= {ORIGINAL, REMOVED, RANDOM}]
    scores = {name: [by[name].score for by in complete] for name in (ORIGINAL, REMOVED, RANDOM)}
    control = visual_reliance_score(scores[ORIGINAL], scores[RANDOM], **options)
    everything = [by[ORIGINAL].score for by in grouped.values() if ORIGINAL in by]
    overlap = float(np.mean([by[RANDOM].overlap for by in complete])) if complete else None
    summary = {
        **visual_reliance_score(scores[ORIGINAL], scores[REMOVED], **options),
        "random_masked_accuracy": control["masked_accuracy"],
        "random_reliance_score": control["visual_reliance_score"],
        "random_confidence_interval": control["confidence_interval"],
        "random_overlap": overlap,
        "scoring": "exact match, normalised",
        "questions": len(everything),
        "accuracy_all_questions": float(np.mean(everything)) if everything else None,
        "by_category": _by_category(complete, options),
    }
    if overlap is not None and overlap > _LARGEST_OVERLAP:
        summary["random_note"] = (
            f"{overlap:.0%} of the random boxes' area is on the evidence, because there was no room elsewhere: the "
            "control removes evidence, too"
        )
    if not complete:
        summary["reason"] = "no question has evidence to black out"
    return summary


def _by_category(complete: Sequence[Mapping[str, Answer]], options: Mapping[str, int]) -> dict[str, Any]:
    counts = Counter(by[ORIGINAL].category for by in complete)
    named = {name for name, _ in counts.most_common(_CATEGORIES if len(counts) <= _CATEGORIES else _CATEGORIES - 1)}
    groups: dict[str, tuple[list[float], list[float]]] = {}
    for by in complete:
        category = by[ORIGINAL].category if by[ORIGINAL].category in named else _OTHER
        original, removed = groups.setdefault(category, ([], []))
        original.append(by[ORIGINAL].score)
        removed.append(by[REMOVED].score)
    return {name: visual_reliance_score(*groups[name], **options) for name in sorted(groups)}


def _images(question: Question, hidden: Sequence[RandomBoxes]) -> list[Image.Image]:
    """Return a question's images, with boxes blacked out if there are any."""
    images = question.images()
    if not hidden:
        return images
    return [black_out(image, boxes.boxes) for image, boxes in zip(images, hidden, strict=True)]


def _random_boxes(question: Question, seed: tuple[int, int]) -> list[RandomBoxes]:
    """Return the control's boxes for each of a question's images."""
    return [
        random_boxes(boxes, size, (*seed, i))
        for i, (size, boxes) in enumerate(zip(question.sizes, question.evidence, strict=True))
    ]


def _scored(question: Question, hidden: Sequence[RandomBoxes], condition: str, answer: str) -> Answer:
    overlaps = [placed.overlap for placed in hidden if len(placed.boxes)]
    return Answer(
        id=question.id,
        condition=condition,
        question=question.messages[-1]["content"],
        references=question.answers,
        answer=answer,
        score=exact_match(answer, question.answers),
        category=question.category,
        has_evidence=question.has_evidence,
        boxes=tuple(_box_list(placed.boxes) for placed in hidden),
        overlap=float(np.mean(overlaps)) if overlaps else 0.0,
    )


def _box_list(boxes: ArrayLike) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, np.asarray(boxes, dtype=np.float64).reshape(-1, 4).tolist()))
