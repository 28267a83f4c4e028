"""Helpers of the tasks for other evaluation harnesses: a question's images again, and an evaluation's numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from fivl_hf.evaluation.plan import planned
from fivl_hf.evaluation.questions import questions
from fivl_hf.evaluation.summary import summarize, unparsed_answers
from fivl_hf.evaluation.table import Answer

__all__ = ["METRICS", "images_under", "metrics", "scored_answer"]

_SAME = ("visual_reliance_score", "accuracy", "masked_accuracy", "random_reliance_score")
METRICS = (*_SAME, "reliance_low", "reliance_high", "reliance_over_random", "unparsed")


def images_under(
    row: Mapping[str, Any], condition: str, *, others: Sequence[Any] = (), **options: Any
) -> list[Image.Image]:
    """Return the images of a row's first question as a condition shows them; none for "text-only".

    Args:
        others: per image, the boxes that :class:`fivl_hf.evaluation.plan.Plan` found for the condition "other".
        options: of :func:`fivl_hf.evaluation.plan.planned`, as the plan had them.
    """
    [question] = questions([row])
    return list(planned(question, condition, others=others or None, **options).open_images())


def scored_answer(id: str, condition: str, value: float, **about: Any) -> Answer:
    """Return an answer of which only the score is known, with its category, picture and further fields."""
    return Answer(id=id, condition=condition, prompt="", references=(), answer="", score=value, **about)


def metrics(answers: Iterable[Answer], *, seed: int = 0) -> dict[str, float | None]:
    """Return the numbers of ``METRICS``; None where one is not defined."""
    summary = summarize(answers, seed=seed)
    low, high = summary["confidence_interval"]
    return {
        **{name: summary[name] for name in _SAME},
        "reliance_low": low,
        "reliance_high": high,
        "reliance_over_random": summary["over_random"]["value"],
        "unparsed": unparsed_answers(summary),
    }
