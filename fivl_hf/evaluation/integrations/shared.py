"""What the tasks for other evaluation harnesses share: a question's images again, and the numbers of an evaluation."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from fivl_hf.evaluation.plan import planned
from fivl_hf.evaluation.questions import questions
from fivl_hf.evaluation.summary import summarize
from fivl_hf.evaluation.table import Answer

__all__ = ["METRICS", "images_again", "metrics", "scored_answer"]

_PLACES: dict[str, tuple[str | int, ...]] = {
    "visual_reliance_score": ("visual_reliance_score",),
    "reliance_low": ("confidence_interval", 0),
    "reliance_high": ("confidence_interval", 1),
    "accuracy": ("accuracy",),
    "masked_accuracy": ("masked_accuracy",),
    "random_reliance_score": ("random_reliance_score",),
    "reliance_over_random": ("over_random", "value"),
}
METRICS = tuple(_PLACES)


def images_again(
    row: Mapping[str, Any], condition: str, *, hidden: Sequence[Any] = (), **options: Any
) -> list[Image.Image]:
    """Return the images of a row's first question as a condition shows them; none for "text-only".

    Args:
        hidden: per image, the boxes that :class:`fivl_hf.evaluation.plan.Plan` found for the condition "other".
        options: of :func:`fivl_hf.evaluation.plan.planned`, as the plan had them.
    """
    [question] = questions([row])
    others = hidden if condition == "other" else None
    return list(planned(question, condition, others=others, **options).open_images())


def scored_answer(id: str, condition: str, value: float, **about: Any) -> Answer:
    """Return an answer of which only the score is known, with its category, picture and further fields."""
    return Answer(id=id, condition=condition, prompt="", references=(), answer="", score=value, **about)


def metrics(answers: Iterable[Answer], *, seed: int = 0) -> dict[str, float | None]:
    """Return the numbers of ``METRICS``; None where one is not defined."""
    summary = summarize(answers, seed=seed)
    found: dict[str, float | None] = {}
    for name, place in _PLACES.items():
        value: Any = summary
        for key in place:
            value = None if value is None else value[key]
        found[name] = value
    return found
