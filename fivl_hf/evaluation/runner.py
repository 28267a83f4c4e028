"""Measuring a model's visual reliance: original, evidence blacked out, random boxes blacked out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from fivl_hf.evaluation.answer import Ask, generate_answers
from fivl_hf.evaluation.perturb import RandomBoxes, black_out, random_boxes
from fivl_hf.evaluation.questions import Question, questions
from fivl_hf.evaluation.reliance import visual_reliance_score
from fivl_hf.evaluation.scoring import exact_match

__all__ = ["Answered", "evaluate_reliance", "summarize", "write_answers"]


@dataclass(frozen=True)
class Answered:
    """One question's three answers and their scores (exact match, 0 or 1).

    ``random_boxes`` are the control's, per picture; ``random_overlap`` is the share of them on the evidence.
    """

    id: str
    question: str
    references: tuple[str, ...]
    answer: str
    masked_answer: str
    random_masked_answer: str
    score: float
    masked_score: float
    random_masked_score: float
    random_overlap: float
    random_boxes: tuple[tuple[tuple[float, ...], ...], ...]
    category: str


def evaluate_reliance(
    model: Any,
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    turns: str = "first",
    batch_size: int = 16,
    max_new_tokens: int = 32,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[dict[str, Any], list[Answered]]:
    """Ask every question three times and score the answers.

    Args:
        rows: raw benchmark or conversation rows; questions without evidence count for accuracy only.
        turns: see :func:`fivl_hf.evaluation.questions.questions`.
        seed: of the random boxes and the bootstrap.

    Returns:
        The summary (:func:`summarize`) and every answer.
    """
    asked = list(questions(rows, turns))
    evident = [q for q in asked if q.has_evidence]
    elsewhere = [_random_boxes(q, (seed, number)) for number, q in enumerate(evident)]

    def ask(asks: list[Ask], description: str) -> list[str]:
        return generate_answers(
            model,
            processor,
            asks,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            description=description,
        )

    answers = ask([(q.messages, q.pictures) for q in asked], "Original images")
    masked = ask([(q.messages, partial(_blacked_out, q, q.evidence)) for q in evident], "Evidence masked")
    random_asks: list[Ask] = [
        (q.messages, partial(_blacked_out, q, [placed.boxes for placed in places]))
        for q, places in zip(evident, elsewhere, strict=True)
    ]
    random_masked = ask(random_asks, "Random boxes masked")
    of_evident = [answer for q, answer in zip(asked, answers, strict=True) if q.has_evidence]
    answered = [_answered(*given) for given in zip(evident, of_evident, masked, random_masked, elsewhere, strict=True)]
    summary = summarize(answered, seed=seed, resamples=resamples)
    everything = [exact_match(answer, q.answers) for q, answer in zip(asked, answers, strict=True)]
    if not answered:
        summary["reason"] = "no question has evidence to black out"
    summary["questions"] = len(asked)
    summary["accuracy_all_questions"] = float(np.mean(everything)) if everything else None
    return summary, answered


def summarize(answered: list[Answered], *, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """The Visual Reliance Score and its control, from answers that may come from a file.

    Returns:
        The metric's result for evidence boxes, the same for random boxes (``random_*``), ``random_overlap`` (mean
        share of the random boxes that fell on the evidence after all) and ``by_category``.
    """
    options = {"seed": seed, "resamples": resamples}
    scores = [a.score for a in answered]
    evidence = visual_reliance_score(scores, [a.masked_score for a in answered], **options)
    control = visual_reliance_score(scores, [a.random_masked_score for a in answered], **options)
    categories = sorted({a.category for a in answered})
    return {
        **evidence,
        "random_masked_accuracy": control["masked_accuracy"],
        "random_reliance_score": control["visual_reliance_score"],
        "random_confidence_interval": control["confidence_interval"],
        "random_overlap": float(np.mean([a.random_overlap for a in answered])) if answered else None,
        "scoring": "exact match, normalised",
        "by_category": {
            name: visual_reliance_score(
                [a.score for a in answered if a.category == name],
                [a.masked_score for a in answered if a.category == name],
                **options,
            )
            for name in categories
        },
    }


def write_answers(path: Path, answered: list[Answered]) -> None:
    """One JSON line per question."""
    lines = (json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answered)
    path.write_text("".join(lines), encoding="utf-8")


def _blacked_out(question: Question, boxes: Sequence[ArrayLike]) -> list[Image.Image]:
    return [black_out(picture, chosen) for picture, chosen in zip(question.pictures(), boxes, strict=True)]


def _random_boxes(question: Question, seed: tuple[int, int]) -> list[RandomBoxes]:
    """The control's boxes for each of a question's pictures."""
    return [
        random_boxes(boxes, size, (*seed, i))
        for i, (size, boxes) in enumerate(zip(question.sizes, question.evidence, strict=True))
    ]


def _answered(
    question: Question, answer: str, masked: str, random_masked: str, elsewhere: list[RandomBoxes]
) -> Answered:
    return Answered(
        id=question.id,
        question=question.messages[-1]["content"],
        references=question.answers,
        answer=answer,
        masked_answer=masked,
        random_masked_answer=random_masked,
        score=exact_match(answer, question.answers),
        masked_score=exact_match(masked, question.answers),
        random_masked_score=exact_match(random_masked, question.answers),
        random_overlap=float(np.mean([placed.overlap for placed in elsewhere if len(placed.boxes)])),
        random_boxes=tuple(tuple(map(tuple, placed.boxes.tolist())) for placed in elsewhere),
        category=question.category,
    )
