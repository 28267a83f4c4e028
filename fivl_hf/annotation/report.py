"""The page of ``fivl agreement``: shares, agreement, confusion tables, and what people disagree about."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fivl_hf.annotation.agreement import JUDGE_QUESTIONS, judged_pairs
from fivl_hf.annotation.items import Verdicts
from fivl_hf.annotation.ratings import Rated, Ratings
from fivl_hf.annotation.records import ANSWERS, QUESTIONS
from fivl_hf.files.atomic import write_atomically, write_json
from fivl_hf.show.pages import figure_url, render_page
from fivl_hf.show.row_pages import row_card
from fivl_hf.show.row_views import view_row

__all__ = ["SHORT_QUESTIONS", "mask_size_histogram", "write_agreement"]

SHORT_QUESTIONS = {"mask": "mask is right", "expression": "expression is significant", "example": "example is good"}
"""The questions in a few words, by field."""

_BINS = 10


def write_agreement(
    folder: Path,
    summary: Mapping[str, Any],
    ratings: Ratings,
    rows: Any,
    *,
    title: str,
    verdicts: Verdicts | None = None,
    most: int = 24,
) -> None:
    """Write ``agreement.json`` and ``agreement.html``.

    Args:
        folder: made if it does not exist.
        summary: of :func:`fivl_hf.annotation.agreement.agreement_summary`.
        ratings, rows: that it is of.
        title: the dataset's name.
        verdicts: the judge's.
        most: how many disagreements are shown.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown, total = _disagreements(ratings, verdicts or {}, most)
    page = render_page(
        "agreement.html.jinja",
        title=title,
        summary=summary,
        questions=QUESTIONS,
        short=SHORT_QUESTIONS,
        answers=ANSWERS,
        histogram=figure_url(mask_size_histogram(ratings.rated)),
        judge_questions={name: question for name, (question, _) in JUDGE_QUESTIONS.items()},
        cards=[_card(rows, each, reasons) for each, reasons in shown],
        total=total,
    )
    write_atomically(folder / "agreement.html", page)
    # The summary marks the results as complete.
    write_json(folder / "agreement.json", summary)


def mask_size_histogram(rated: Sequence[Rated]) -> Figure:
    """Draw how many masks of each size people find right and wrong, as the paper's histogram does."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axis = figure.subplots()
    edges = np.linspace(0, 1, _BINS + 1)
    sizes = {
        verdict: [each.item.coverage for each in rated if each.verdict("mask") is verdict] for verdict in (True, False)
    }
    axis.hist(
        [sizes[True], sizes[False]],
        bins=edges.tolist(),
        stacked=True,
        label=["right", "wrong"],
        color=["#0072b2", "#e69f00"],
        edgecolor="black",
        hatch=["", "//"],
    )
    axis.set(xlabel="share of the image that the mask covers", ylabel="masks", xlim=(0, 1))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.legend()
    return figure


def _disagreements(ratings: Ratings, verdicts: Verdicts, most: int) -> tuple[list[tuple[Rated, list[str]]], int]:
    """Return expressions with the reasons why they are shown: disputed ones, then those the judge sees differently."""
    with_reasons: dict[str, tuple[Rated, list[str]]] = {}
    for each in ratings.rated:
        for question in QUESTIONS:
            if each.is_disputed(question):
                with_reasons.setdefault(each.item.key, (each, []))[1].append(f"{SHORT_QUESTIONS[question]}: disputed")
    for name in JUDGE_QUESTIONS:
        for each, human, judge in judged_pairs(ratings.rated, verdicts, name):
            if human != judge:
                said = f"{name}: people {'yes' if human else 'no'}, judge {'yes' if judge else 'no'}"
                with_reasons.setdefault(each.item.key, (each, []))[1].append(said)
    ordered = sorted(with_reasons.values(), key=lambda pair: -len(pair[1]))
    return ordered[:most], len(ordered)


def _card(rows: Any, rated: Rated, reasons: Sequence[str]) -> dict[str, Any]:
    """Return the values for the card of one expression: its row with this expression alone."""
    row, place = rows[rated.row], rated.item.place
    alone = {**row, "key_expressions": [row["key_expressions"][place]], "masks": [row["masks"][place]]}
    comments = [(name, each.comment) for name, each in sorted(rated.annotations.items()) if each.comment]
    said = [
        (SHORT_QUESTIONS[question], _counted(rated.answers(question)), sorted(rated.answers(question).items()))
        for question in QUESTIONS
    ]
    card = row_card(view_row(alone, turns=1, boxes=True))
    return {**card, "anchor": f"expression-{rated.row}-{place}", "reasons": reasons, "said": said, "comments": comments}


def _counted(answers: Mapping[str, str]) -> str:
    counts = Counter(answers.values())
    return ", ".join(f"{counts[answer]} {answer}" for answer in ANSWERS if counts[answer])
