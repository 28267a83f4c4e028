"""The numbers of an evaluation, computed from its table of answers without a model."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivl_hf.bootstrap import clustered_interval, ratio
from fivl_hf.evaluation.conditions import CONDITIONS, fill_of, kind_of, with_fill
from fivl_hf.evaluation.judge import AnswerScorer, answer_scorer
from fivl_hf.evaluation.reliance import visual_reliance_score
from fivl_hf.evaluation.scorers import RIGHT
from fivl_hf.evaluation.scores import Scores, collect
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, Answer
from fivl_hf.masks import BoolArray, FloatArray

__all__ = ["SCOPES", "rescored", "scored", "summarize", "unparsed_answers"]

SCOPES = ("evidence", "all")
# More of the random boxes than this on the evidence, and the control takes evidence away, too.
_LARGEST_OVERLAP = 0.1
_GROUPS = 50
_OTHER = "other"
_FLOORS = ("text-only", "blank")
_OTHER_SCOPE = {"evidence": ("all", "all_questions"), "all": ("evidence", "with_evidence")}
_NO_ANSWER = "no question was answered under this condition"
_NOTHING_RIGHT = "no answer is right on the original images"

_Measured = dict[str, Any]


def rescored(answers: Iterable[Answer], scorer_name: str, verdicts: Path | None = None) -> Iterator[Answer]:
    """Return answers with the scores of a scorer, one by one; arguments and errors are those of ``answer_scorer``."""
    return map(partial(scored, score=answer_scorer(scorer_name, verdicts)), answers)


def scored(answer: Answer, score: AnswerScorer) -> Answer:
    """Return an answer with its score; a refusal is not parsed by any scorer."""
    value = None if answer.refused else score(answer)
    return replace(answer, score=value or 0.0, parsed=value is not None)


def summarize(
    answers: Iterable[Answer],
    *,
    conditions: Sequence[str] = (),
    scorer_name: str = "exact",
    seed: int = 0,
    resamples: int = 10_000,
    fill: str = "black",
    scope: str = "evidence",
) -> dict[str, Any]:
    """Return the Visual Reliance Score, its controls, and every condition's accuracy.

    Args:
        answers: with the scores of ``scorer_name`` (:func:`rescored`); their order does not matter.
        conditions: that were asked; one without answers is listed with a reason.
        seed, resamples: of the bootstrap of the images.
        fill: of the evidence that is removed, for the score and its control; see
            :data:`fivl_hf.evaluation.conditions.FILLS`. The paper's is black.
        scope: the questions that the score is about: those with "evidence", or "all", of which those without evidence
            count as unchanged.

    Returns:
        Of the questions in scope: the metric's result; the same for random boxes (``random_*``, ``random_overlap``:
        mean share of their area that fell on the evidence after all; above 0.1, ``random_note`` says so);
        ``over_random`` (VRS minus that of random boxes, both within one resample); ``floor_normalized_reliance``
        ((accuracy - without evidence) / (accuracy - without the image)); ``sufficiency`` (1: the evidence alone is
        enough, 0: nothing is right with it alone); ``grounding`` (FPVG); the same of the questions of each category and
        of each first reference (``by_category``, ``by_reference``; of at most 50, the others together). What is None
        has a ``reason`` beside it. The same of the other scope: ``all_questions`` or ``with_evidence``. Of all
        questions under each condition, ``conditions``: accuracy, loss against the original images, unparsed answers,
        and how answers ended (``endings``: cut off, refused, empty).

    Raises:
        ValueError: no answers to the original images, two to one question under one condition, or an unknown fill or
            scope.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}")
    removed = with_fill(REMOVED, fill)
    scores = collect(answers, conditions)
    if scores.ids and not scores.asked(ORIGINAL).any():
        raise ValueError(
            "there are no answers to the original images, which the others are compared with: evaluate under 'original'"
        )
    everything = _Questions(scores.with_unchanged(), scores.asked(ORIGINAL), {"seed": seed, "resamples": resamples})
    # Questions that were answered under all of the conditions that the score and its control need, where any were.
    core = {
        name
        for name in {ORIGINAL, removed, with_fill(RANDOM, fill)} & set(scores.conditions)
        if scores.asked(name).any()
    }
    scopes = {
        "evidence": everything.where(scores.has_evidence).answered(*core),
        "all": everything.answered(*core),
    }
    chosen = scopes[scope]
    other, other_name = _OTHER_SCOPE[scope]
    return {
        **_grouped(chosen, fill),
        "scoring": scorer_name,
        "fill": fill,
        "scope": scope,
        "bootstrap": {"seed": seed, "resamples": resamples},
        "questions": len(everything),
        "questions_with_evidence": len(everything.where(scores.has_evidence)),
        "accuracy_all_questions": everything.mean(ORIGINAL)["value"],
        "conditions": {
            name: _condition(replace(everything, scores=scores), name)
            for name in sorted(scores.conditions, key=CONDITIONS.index)
        },
        other_name: _grouped(scopes[other], fill),
    }


def unparsed_answers(summary: Mapping[str, Any]) -> int:
    """Return how many answers, under all conditions, the scorer could not read; they count as wrong."""
    return sum(found["unparsed"] for found in summary["conditions"].values())


@dataclass(frozen=True)
class _Questions:
    """Some of the questions.

    Attributes:
        chosen: (N,) which of the scores they are.
        options: seed and resamples of every interval.
    """

    scores: Scores
    chosen: BoolArray
    options: Mapping[str, int]

    def __len__(self) -> int:
        return int(self.chosen.sum())

    def where(self, condition: BoolArray) -> "_Questions":
        return replace(self, chosen=self.chosen & condition)

    def answered(self, *conditions: str) -> "_Questions":
        return self.where(self.scores.asked(*conditions))

    def of(self, condition: str) -> FloatArray:
        """Return the scores (n,) under a condition."""
        return self.scores.of(condition)[self.chosen]

    @property
    def clusters(self) -> NDArray[np.int64]:
        """(n,) the picture of each question."""
        return self.scores.clusters[self.chosen]

    def lacks(self, *conditions: str) -> str | None:
        """Return why the questions give no number under the conditions; None if they do."""
        if missing := [name for name in conditions if name not in self.scores.conditions]:
            return f"the condition {missing[0]!r} was not asked"
        if empty := [name for name in conditions if self.scores.ids and not self.scores.asked(name).any()]:
            return f"no question was answered under {empty[0]!r}"
        if len(self):
            return None
        if not len(self.scores.ids):
            return "there are no questions"
        if not self.scores.has_evidence.any():
            return "no question has evidence to remove"
        return "no question with evidence was answered under all conditions"

    def reliance(self, condition: str) -> _Measured:
        """Return the metric's result where a condition takes the evidence's place."""
        if reason := self.lacks(condition):
            accuracy = self.mean(ORIGINAL)["value"]
            return {**visual_reliance_score([], []), "accuracy": accuracy, "n": len(self), "reason": reason}
        return visual_reliance_score(self.of(ORIGINAL), self.of(condition), groups=self.clusters, **self.options)

    def statistic(
        self, of_sums: Callable[[FloatArray], FloatArray], conditions: Sequence[str], undefined: str = _NOTHING_RIGHT
    ) -> _Measured:
        """Return a statistic of the sums of scores under K conditions, with its interval.

        Args:
            of_sums: (R, K) -> (R,), NaN where it is undefined.
            undefined: the reason why it may be.
        """
        if reason := self.lacks(*conditions):
            return _undefined(reason)
        return self._statistic(of_sums, [self.of(name) for name in conditions], undefined)

    def mean(self, condition: str) -> _Measured:
        reason = self.lacks(condition)
        return _undefined(reason) if reason else self._mean(self.of(condition))

    def share(self, which: BoolArray) -> _Measured:
        """Return how many of these questions (n,) are meant, and their share."""
        return {"n": int(which.sum()), **self._mean(which.astype(np.float64))}

    def _mean(self, values: FloatArray) -> _Measured:
        return self._statistic(lambda sums: ratio(sums[:, 0], sums[:, 1]), [values, np.ones_like(values)], "")

    def _statistic(
        self, of_sums: Callable[[FloatArray], FloatArray], columns: Sequence[FloatArray], undefined: str
    ) -> _Measured:
        values = np.stack(columns, axis=1)
        value = float(of_sums(values.sum(axis=0, keepdims=True))[0])
        if np.isnan(value):
            return _undefined(undefined)
        interval = clustered_interval(of_sums, values, self.clusters, **self.options)
        return {"value": value, "confidence_interval": list(interval or (None, None))}


def _undefined(reason: str) -> _Measured:
    return {"value": None, "confidence_interval": [None, None], "reason": reason}


def _measures(questions: _Questions, fill: str) -> _Measured:
    """Return everything that is measured of some questions."""
    removed, random, kept = (with_fill(kind, fill) for kind in (REMOVED, RANDOM, "kept"))
    return {
        **questions.reliance(removed),
        "accuracy_interval": questions.mean(ORIGINAL)["confidence_interval"],
        "masked_accuracy_interval": questions.mean(removed)["confidence_interval"],
        **_control(questions, random),
        "over_random": _over_random(questions, removed, random),
        "floor_normalized_reliance": {floor: _floor_normalized(questions, removed, floor) for floor in _FLOORS},
        "sufficiency": _answered(questions, kept).statistic(
            lambda sums: ratio(sums[:, 1], sums[:, 0]), [ORIGINAL, kept]
        ),
        "grounding": _grounding(questions, removed, kept),
    }


def _answered(questions: _Questions, condition: str) -> _Questions:
    """Return the questions that were asked under a condition; all, if none was."""
    return questions.answered(condition) if condition in questions.scores.conditions else questions


def _control(questions: _Questions, random: str) -> _Measured:
    """Return what random boxes do."""
    control = questions.reliance(random)
    with_evidence = questions.where(questions.scores.has_evidence)
    overlaps = with_evidence.scores.overlap[with_evidence.chosen]
    overlap = None if with_evidence.lacks(random) else float(overlaps.mean())
    result = {
        "random_masked_accuracy": control["masked_accuracy"],
        "random_reliance_score": control["visual_reliance_score"],
        "random_confidence_interval": control["confidence_interval"],
        "random_overlap": overlap,
    }
    if "reason" in control:
        result["random_reason"] = control["reason"]
    if overlap is not None and overlap > _LARGEST_OVERLAP:
        result["random_note"] = (
            f"{overlap:.0%} of the random boxes' area is on the evidence, because there was no room elsewhere: the "
            "control removes evidence, too"
        )
    return result


def _over_random(questions: _Questions, removed: str, random: str) -> _Measured:
    """Return VRS minus that of random boxes: (random - removed) / original."""
    return questions.statistic(lambda sums: ratio(sums[:, 2] - sums[:, 1], sums[:, 0]), [ORIGINAL, removed, random])


def _floor_normalized(questions: _Questions, removed: str, floor: str) -> _Measured:
    """Return (accuracy - without evidence) / (accuracy - without the image)."""
    return _answered(questions, floor).statistic(
        lambda sums: ratio(sums[:, 0] - sums[:, 1], sums[:, 0] - sums[:, 2]),
        [ORIGINAL, removed, floor],
        f"accuracy is not above that of {floor!r}",
    )


def _grounding(questions: _Questions, removed: str, kept: str) -> _Measured:
    """Count answers by FPVG: grounded ones stay when only the evidence is kept and change when it is removed."""
    answered = _answered(questions.where(questions.scores.has_evidence), kept)
    if reason := answered.lacks(removed, kept):
        return {"n": 0, "reason": reason}
    original, alone, without = (answered.scores.texts(name)[answered.chosen] for name in (ORIGINAL, kept, removed))
    grounded, right = (original == alone) & (original != without), answered.of(ORIGINAL) >= RIGHT
    return {
        "n": len(answered),
        **{
            f"{'grounded' if is_grounded else 'ungrounded'}, {'right' if is_right else 'wrong'}": answered.share(
                (grounded == is_grounded) & (right == is_right)
            )
            for is_grounded in (True, False)
            for is_right in (True, False)
        },
    }


def _condition(questions: _Questions, name: str) -> _Measured:
    """Return what a condition does to the questions that were asked under it."""
    answered = questions.answered(name)
    scores = questions.scores
    result = answered.reliance(name)
    measured = {
        "n": len(answered),
        "accuracy": result["masked_accuracy"],
        "accuracy_interval": answered.mean(name)["confidence_interval"],
        "accuracy_original": result["accuracy"],
        "reliance": result["visual_reliance_score"],
        "confidence_interval": result["confidence_interval"],
        **({"reason": result["reason"] if len(answered) else _NO_ANSWER} if "reason" in result else {}),
        "unparsed": int(scores.unparsed[answered.chosen, scores.conditions.index(name)].sum()),
        "endings": dict(scores.endings.get(name, {})),
    }
    if kind_of(name) == REMOVED:
        random = with_fill(RANDOM, fill_of(name))
        measured["over_random"] = _over_random(_answered(answered, random), name, random)
    return measured


def _grouped(questions: _Questions, fill: str) -> _Measured:
    """Return everything that is measured of the questions of a scope, and of groups of them."""
    names = {"by_category": questions.scores.categories, "by_reference": questions.scores.first_references}
    whole = _measures(questions, fill)
    groups = {
        by: {
            name: whole if len(group) == len(questions) else _measures(group, fill)
            for name, group in _groups(questions, values)
        }
        for by, values in names.items()
    }
    return {**whole, **groups}


def _groups(questions: _Questions, names: NDArray[np.object_]) -> Iterator[tuple[str, _Questions]]:
    """Yield the questions of each name; of many names, those of the rarest ones together."""
    counts = Counter(names[questions.chosen])
    named = set(counts)
    if len(counts) > _GROUPS:
        # Of two of one size, the first by name, whatever the order of the answers.
        named = set(sorted(counts, key=lambda name: (-counts[name], name))[: _GROUPS - 1])
    grouped = np.array([name if name in named else _OTHER for name in names], dtype=object)
    for name in sorted(set(grouped[questions.chosen])):
        yield name, questions.where(grouped == name)
