"""Figures of annotations: shares with intervals, how far people agree, and judge and extractor with them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fivl_hf.annotation.items import Verdict, Verdicts
from fivl_hf.annotation.kappa import answer_counts, cohen_kappa, confusion, fleiss_kappa, krippendorff_alpha
from fivl_hf.annotation.ratings import Rated, Ratings
from fivl_hf.annotation.records import ANSWERS, QUESTIONS
from fivl_hf.bootstrap import cluster_sums, clustered_interval, clustered_wilson_interval, ratio
from fivl_hf.supervision import COVERAGE_BANDS, coverage_band

__all__ = ["JUDGE_QUESTIONS", "agreement_summary", "judged_pairs"]

JUDGE_QUESTIONS: Mapping[str, tuple[str, Callable[[Verdict], bool | None]]] = {
    "important": ("expression", lambda verdict: verdict.important),
    "seg1": ("mask", lambda verdict: verdict.seg1),
    "not seg2": ("mask", lambda verdict: None if verdict.seg2 is None else not verdict.seg2),
}
"""The judge's answers: the annotators' question each is compared with, and how it is read; yes is good in all."""


def agreement_summary(ratings: Ratings, verdicts: Verdicts | None = None) -> dict[str, Any]:
    """Return all figures of annotations as they are stored in ``agreement.json``.

    Args:
        ratings: of :func:`fivl_hf.annotation.ratings.collect_ratings`.
        verdicts: the judge's (:func:`fivl_hf.annotation.items.judge_verdicts`).

    Returns:
        ``shares`` of expressions with verdict yes, by question (``all``; ``of_dataset``, weighted by how common the
        strata of a stratified sample are; ``by_mask_size``; ``by_source``): from 0 to 1, with 95% intervals
        [low, high], None without decided expressions or with a single image; ``undecided`` ones do not count, and
        ``answers`` counts every annotator's answer. ``agreement`` by question: Fleiss' kappa,
        Krippendorff's alpha and pairs of annotators, None where they are not defined. ``judge``: tables of people's
        verdicts and the judge's. ``extractor``: precision and recall. ``gold``: right answers of each annotator.
        ``strategies``: how the expressions were drawn.
    """
    return {
        "expressions": len(ratings.rated),
        "annotators": {name: sum(name in each.annotations for each in ratings.rated) for name in ratings.annotators},
        "changed_since": list(ratings.changed),
        "annotations_ignored": ratings.ignored,
        "strategies": list(ratings.strategies),
        "shares": {question: _shares(ratings, question) for question in QUESTIONS},
        "agreement": {question: _agreement(ratings, question) for question in QUESTIONS},
        "judge": _judge(ratings.rated, verdicts) if verdicts else None,
        "extractor": _extractor(ratings.rated),
        "gold": _gold(ratings),
    }


def _shares(ratings: Ratings, question: str) -> dict[str, Any]:
    """Return the share of expressions with verdict yes: of all, by mask size, by source."""
    rated = ratings.rated
    sources = sorted({each.item.source for each in rated})
    return {
        "all": _share(rated, question),
        "of_dataset": _share(rated, question, weighted=True) if ratings.weighted else None,
        "by_mask_size": {
            name: _share([each for each in rated if coverage_band(each.item.coverage) == i], question)
            for i, name in enumerate(COVERAGE_BANDS)
        },
        "by_source": {
            source or "none": _share([each for each in rated if each.item.source == source], question)
            for source in sources
        },
    }


def _share(rated: Sequence[Rated], question: str, *, weighted: bool = False) -> dict[str, Any]:
    """Return how many verdicts are yes, with Wilson's interval and that of a bootstrap of the images."""
    rated = [each for each in rated if each.item.weight] if weighted else rated
    decided = [(each, verdict) for each in rated if (verdict := each.verdict(question)) is not None]
    answered = sum(bool(each.answers(question)) for each in rated)
    said = [answer for each in rated for answer in each.answers(question).values()]
    figures: dict[str, Any] = {
        "share": None,
        "n": len(decided),
        "yes": sum(verdict for _, verdict in decided),
        "undecided": answered - len(decided),
        "answers": {answer: said.count(answer) for answer in ANSWERS},
        "wilson": None,
        "bootstrap": None,
    }
    if not decided:
        return figures
    weights = np.array([each.item.weight if weighted else 1.0 for each, _ in decided])
    yes = weights * [verdict for _, verdict in decided]
    images = [each.image for each, _ in decided]
    values = np.stack([yes, weights], axis=1)
    interval = clustered_interval(lambda sums: ratio(sums[:, 0], sums[:, 1]), values, images)
    figures["share"] = float(yes.sum() / weights.sum())
    figures["bootstrap"] = list(interval) if interval and len(set(images)) > 1 else None
    if not weighted:
        figures["wilson"] = clustered_wilson_interval(*cluster_sums(values, images).T)
    return figures


def _agreement(ratings: Ratings, question: str) -> dict[str, Any]:
    answers = [each.answers(question) for each in ratings.rated]
    several = [each for each in answers if len(each) > 1]
    counts = answer_counts(several, ANSWERS)
    pairs = []
    for one, other in combinations(ratings.annotators, 2):
        both = [each for each in answers if one in each and other in each]
        if both:
            table = confusion([each[one] for each in both], [each[other] for each in both], ANSWERS)
            pairs.append({"annotators": [one, other], **_table(table)})
    return {
        "expressions": len(several),
        "fleiss_kappa": fleiss_kappa(counts) if counts else None,
        "krippendorff_alpha": krippendorff_alpha(counts) if counts else None,
        "pairs": pairs,
    }


def _table(table: list[list[int]]) -> dict[str, Any]:
    """Return a table of counts with how often the two agree."""
    total = int(np.sum(table))
    return {
        "n": total,
        "agree": float(np.trace(table) / total) if total else None,
        "cohen_kappa": cohen_kappa(table),
        "confusion": table,
    }


def judged_pairs(rated: Iterable[Rated], verdicts: Verdicts, name: str) -> list[tuple[Rated, bool, bool]]:
    """Return expressions on which people and judge both decided, with both verdicts, yes as True.

    Args:
        name: which of the judge's answers, a key of :data:`JUDGE_QUESTIONS`.
    """
    question, read = JUDGE_QUESTIONS[name]
    pairs = []
    for each in rated:
        verdict = verdicts.get((each.item.id, each.item.turn, each.item.text))
        human, judge = each.verdict(question), read(verdict) if verdict else None
        if human is not None and judge is not None:
            pairs.append((each, human, judge))
    return pairs


def _judge(rated: Sequence[Rated], verdicts: Verdicts) -> dict[str, Any]:
    tables = {}
    for name in JUDGE_QUESTIONS:
        pairs = judged_pairs(rated, verdicts, name)
        people = ["yes" if human else "no" for _, human, _ in pairs]
        judge = ["yes" if said else "no" for _, _, said in pairs]
        tables[name] = _table(confusion(people, judge, ("yes", "no")))
    return tables


def _extractor(rated: Sequence[Rated]) -> dict[str, Any]:
    """Return precision and recall of the dataset's key expressions, by what people say of them and add.

    Recall is over the turns in which somebody looked for missing expressions, and unknown without one.
    A turn's expressions that nobody annotated count as significant as often as those that were: recall compares
    this number with the expressions that annotators miss there.
    """
    turns: dict[tuple[str, int], list[Rated]] = {}
    for each in rated:
        turns.setdefault((each.item.id, each.item.turn), []).append(each)
    significant, missed, turns_looked_at = 0.0, 0, 0
    for of_turn in turns.values():
        verdicts = [verdict for each in of_turn if (verdict := each.verdict("expression")) is not None]
        looked = [said.missed for each in of_turn for said in each.annotations.values() if said.missed is not None]
        if not verdicts or not looked:
            continue
        turns_looked_at += 1
        significant += of_turn[0].expressions_of_turn * float(np.mean(verdicts))
        missed += len({text.casefold() for texts in looked for text in texts})
    return {
        "precision": _share(rated, "expression"),
        "missed": missed,
        "recall": significant / (significant + missed) if significant + missed else None,
        "turns": turns_looked_at,
    }


def _gold(ratings: Ratings) -> dict[str, Any]:
    """Return how often each annotator answers gold items as the expert did."""
    figures = {}
    for name in ratings.annotators if ratings.gold else ():
        right = {
            question: [
                each.annotations[name].answers[question] == ratings.gold[each.item.key].answers.get(question)
                for each in ratings.rated
                if each.item.gold and name in each.annotations and question in each.annotations[name].answers
            ]
            for question in QUESTIONS
        }
        figures[name] = {question: {"right": sum(hits), "n": len(hits)} for question, hits in right.items()}
    return figures
