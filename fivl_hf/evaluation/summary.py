"""The numbers of an evaluation, computed from its table of answers without a model."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivl_hf.bootstrap import clustered_interval, ratio
from fivl_hf.evaluation.reliance import visual_reliance_score
from fivl_hf.evaluation.scorers import RIGHT, scorer
from fivl_hf.evaluation.scores import Scores, collect
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, Answer
from fivl_hf.masks import BoolArray, FloatArray

__all__ = ["rescored", "summarize"]

# More of the random boxes than this on the evidence, and the control takes evidence away, too.
_LARGEST_OVERLAP = 0.1
_CATEGORIES = 50
_OTHER = "other"
_FLOORS = ("text-only", "blank")


def rescored(answers: Iterable[Answer], scorer_name: str) -> Iterator[Answer]:
    """Return answers with the scores of a scorer, one by one; raises ValueError for an unknown one."""
    score = scorer(scorer_name)

    def scored(answer: Answer) -> Answer:
        value = score(answer.answer, answer.references)
        return replace(answer, score=value or 0.0, parsed=value is not None)

    return map(scored, answers)


def summarize(
    answers: Iterable[Answer], *, scorer_name: str = "exact", seed: int = 0, resamples: int = 10_000
) -> dict[str, Any]:
    """Return the Visual Reliance Score, its controls, and every condition's accuracy.

    Args:
        answers: with the scores of ``scorer_name`` (:func:`rescored`); their order does not matter.
        resamples: bootstrap resamples of the pictures.

    Returns:
        The metric's result for evidence boxes, the same for random boxes (``random_*``, ``random_overlap``: mean share
        of their area that fell on the evidence after all; above 0.1, ``random_note`` says so), ``over_random`` (VRS
        minus that of random boxes, both within one resample), ``conditions`` (accuracy, loss against the original
        images with its interval, unparsed answers), ``floor_normalized_reliance``, ``grounding`` (FPVG),
        ``sufficiency`` (1: the evidence alone is enough, 0: nothing is right with it alone), ``all_questions`` (VRS
        where questions without evidence count as unchanged), ``by_category`` (of at most 50, the others together) and,
        for yes/no questions, ``by_reference``.
    """
    options = {"seed": seed, "resamples": resamples}
    found = collect(answers)
    if found.conditions and ORIGINAL not in found.conditions:
        raise ValueError("there are no answers to the original images, without which nothing is known to be lost")
    everything = found.asked(ORIGINAL)
    core = {ORIGINAL, REMOVED, RANDOM} & set(found.conditions)
    complete = found.asked(*core) & found.has_evidence if ORIGINAL in core else np.zeros(len(found.ids), dtype=bool)
    removed = REMOVED in core
    summary = {
        **(_reliance(found, complete, REMOVED, options) if removed else _unmeasured(found, complete)),
        **_control(found, complete if RANDOM in core else np.zeros_like(complete), options),
        "scoring": scorer_name,
        "questions": int(everything.sum()),
        "questions_with_evidence": int((everything & found.has_evidence).sum()),
        "accuracy_all_questions": _mean(found, everything, ORIGINAL),
        "conditions": {name: _condition(found, everything, name, options) for name in found.conditions},
        "all_questions": _all_questions(found, everything, options) if removed else None,
        "floor_normalized_reliance": _floor_normalized(found, complete) if removed else {},
        "sufficiency": _sufficiency(found),
        "grounding": _grounding(found),
        "by_category": _by(found, complete, found.categories, options) if removed else {},
        "by_reference": _by_reference(found, complete, options) if removed else {},
    }
    if not complete.any():
        summary["reason"] = "no question has evidence to black out"
    return summary


def _unmeasured(found: Scores, complete: BoolArray) -> dict[str, Any]:
    """Return the metric's result where the evidence was never removed."""
    return {
        "visual_reliance_score": None,
        "accuracy": _mean(found, complete, ORIGINAL),
        "masked_accuracy": None,
        "n": int(complete.sum()),
        "confidence_interval": [None, None],
        "reason": f"the condition {REMOVED!r} was not asked",
    }


def _reliance(found: Scores, chosen: BoolArray, condition: str, options: Mapping[str, int]) -> dict[str, Any]:
    original, changed = (found.of(name)[chosen] for name in (ORIGINAL, condition))
    return visual_reliance_score(original, changed, groups=list(found.pictures[chosen]), **options)


def _control(found: Scores, complete: BoolArray, options: Mapping[str, int]) -> dict[str, Any]:
    control = _reliance(found, complete, RANDOM, options) if complete.any() else {}
    overlap = float(found.overlap[complete].mean()) if complete.any() else None
    result = {
        "random_masked_accuracy": control.get("masked_accuracy"),
        "random_reliance_score": control.get("visual_reliance_score"),
        "random_confidence_interval": control.get("confidence_interval", [None, None]),
        "random_overlap": overlap,
        "over_random": _difference(found, complete, options) if complete.any() else None,
    }
    if overlap is not None and overlap > _LARGEST_OVERLAP:
        result["random_note"] = (
            f"{overlap:.0%} of the random boxes' area is on the evidence, because there was no room elsewhere: the "
            "control removes evidence, too"
        )
    return result


def _difference(found: Scores, complete: BoolArray, options: Mapping[str, int]) -> dict[str, Any]:
    """Return VRS minus that of random boxes: (random - removed) / original."""
    if REMOVED not in found.conditions:
        return {"value": None, "confidence_interval": [None, None]}
    scores = np.stack([found.of(name)[complete] for name in (ORIGINAL, REMOVED, RANDOM)], axis=1)

    def difference(totals: FloatArray) -> FloatArray:
        return ratio(totals[:, 2] - totals[:, 1], totals[:, 0])

    value = float(difference(scores.sum(axis=0, keepdims=True))[0])
    interval = clustered_interval(difference, scores, list(found.pictures[complete]), **options)
    return {"value": None if np.isnan(value) else value, "confidence_interval": list(interval or (None, None))}


def _condition(found: Scores, everything: BoolArray, name: str, options: Mapping[str, int]) -> dict[str, Any]:
    answered = everything & found.asked(name)
    reliance = _reliance(found, answered, name, options) if answered.any() else visual_reliance_score([], [])
    return {
        "n": int(answered.sum()),
        "accuracy": reliance["masked_accuracy"],
        "accuracy_original": reliance["accuracy"],
        "reliance": reliance["visual_reliance_score"],
        "confidence_interval": reliance["confidence_interval"],
        "unparsed": int(found.unparsed[answered, found.conditions.index(name)].sum()),
    }


def _all_questions(found: Scores, everything: BoolArray, options: Mapping[str, int]) -> dict[str, Any]:
    """Return the score over all questions: one without evidence has nothing to lose."""
    original, removed = (found.of(name)[everything] for name in (ORIGINAL, REMOVED))
    unchanged = np.where(np.isnan(removed), original, removed)
    return visual_reliance_score(original, unchanged, groups=list(found.pictures[everything]), **options)


def _floor_normalized(found: Scores, complete: BoolArray) -> dict[str, float | None]:
    """Return (accuracy - without evidence) / (accuracy - without the image), for each way to be without the image."""
    normalized = {}
    for floor in _FLOORS:
        answered = complete & found.asked(floor)
        if answered.any():
            original, removed, lowest = (float(found.of(name)[answered].mean()) for name in (ORIGINAL, REMOVED, floor))
            normalized[floor] = (original - removed) / (original - lowest) if original > lowest else None
    return normalized


def _sufficiency(found: Scores) -> float | None:
    """Return accuracy with nothing but the evidence / accuracy: 1 if it is enough; None where it was not asked."""
    answered = found.asked(ORIGINAL, "kept")
    original = found.of(ORIGINAL)[answered].sum() if answered.any() else 0.0
    return float(found.of("kept")[answered].sum() / original) if original else None


def _grounding(found: Scores) -> dict[str, int] | None:
    """Count answers by FPVG: grounded ones stay when only the evidence is kept and change when it is removed."""
    answered = found.asked(ORIGINAL, "kept", REMOVED)
    if not answered.any():
        return None
    original, kept, removed = (found.texts(name)[answered] for name in (ORIGINAL, "kept", REMOVED))
    grounded, right = (original == kept) & (original != removed), found.of(ORIGINAL)[answered] >= RIGHT
    return {
        f"{'grounded' if how else 'ungrounded'}, {'right' if what else 'wrong'}": int(
            ((grounded == how) & (right == what)).sum()
        )
        for how in (True, False)
        for what in (True, False)
    }


def _by_reference(found: Scores, complete: BoolArray, options: Mapping[str, int]) -> dict[str, Any]:
    """Return yes/no questions by their right answer; nothing for other questions."""
    if not complete.any() or not set(found.first_references[complete]) <= {"yes", "no"}:
        return {}
    return _by(found, complete, found.first_references, options)


def _by(found: Scores, complete: BoolArray, names: NDArray[np.object_], options: Mapping[str, int]) -> dict[str, Any]:
    counts = Counter(names[complete])
    # Of two of one size, the first by name, whatever the order of the answers.
    largest = sorted(counts, key=lambda name: (-counts[name], name))
    named = set(largest if len(counts) <= _CATEGORIES else largest[: _CATEGORIES - 1])
    groups = np.array([name if name in named else _OTHER for name in names], dtype=object)
    return {
        name: _reliance(found, complete & (groups == name), REMOVED, options) for name in sorted(set(groups[complete]))
    }


def _mean(found: Scores, chosen: BoolArray, condition: str) -> float | None:
    return float(found.of(condition)[chosen].mean()) if chosen.any() else None
