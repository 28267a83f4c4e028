"""The numbers of an evaluation, computed from its table of answers without a model."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fivl_hf.bootstrap import clustered_interval, ratio
from fivl_hf.evaluation.reliance import visual_reliance_score
from fivl_hf.evaluation.scorers import scorer
from fivl_hf.evaluation.scoring import normalize_answer
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, Answer, by_question
from fivl_hf.masks import FloatArray

__all__ = ["rescored", "summarize"]

# More of the random boxes than this on the evidence, and the control takes evidence away, too.
_LARGEST_OVERLAP = 0.1
_CATEGORIES = 50
_OTHER = "other"
_FLOORS = ("text-only", "blank")
ByQuestion = Sequence[Mapping[str, Answer]]


def rescored(answers: Iterable[Answer], scorer_name: str) -> list[Answer]:
    """Return answers with the scores of a scorer; raises ValueError for an unknown one."""
    score = scorer(scorer_name)
    values = [(answer, score(answer.answer, answer.references)) for answer in answers]
    return [replace(answer, score=value or 0.0, parsed=value is not None) for answer, value in values]


def summarize(
    answers: Iterable[Answer], *, scorer_name: str = "exact", seed: int = 0, resamples: int = 10_000
) -> dict[str, Any]:
    """Return the Visual Reliance Score, its controls, and every condition's accuracy.

    Args:
        answers: with the scores of ``scorer_name`` (:func:`rescored`).
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
    grouped = list(by_question(answers).values())
    asked = {condition for by in grouped for condition in by}
    core = asked & {ORIGINAL, REMOVED, RANDOM}
    complete = [by for by in grouped if by.keys() >= core and by[ORIGINAL].has_evidence] if ORIGINAL in asked else []
    everything = [by for by in grouped if ORIGINAL in by]
    summary = {
        **(_reliance(complete, REMOVED, options) if REMOVED in asked else _unmeasured(complete)),
        **_control(complete if RANDOM in asked else [], options),
        "scoring": scorer_name,
        "questions": len(everything),
        "accuracy_all_questions": _mean([by[ORIGINAL].score for by in everything]),
        "conditions": {name: _condition(everything, name, options) for name in sorted(asked)},
        "all_questions": _all_questions(everything, options) if REMOVED in asked else None,
        "floor_normalized_reliance": _floor_normalized(complete) if REMOVED in asked else {},
        "sufficiency": _sufficiency(everything),
        "grounding": _grounding(everything),
        "by_category": _by(complete, lambda answer: answer.category, options) if REMOVED in asked else {},
        "by_reference": _by_reference(complete, options) if REMOVED in asked else {},
    }
    if not complete:
        summary["reason"] = "no question has evidence to black out"
    return summary


def _unmeasured(complete: ByQuestion) -> dict[str, Any]:
    """Return the metric's result where the evidence was never removed."""
    return {
        "visual_reliance_score": None,
        "accuracy": _mean(_scores(complete, ORIGINAL)),
        "masked_accuracy": None,
        "n": len(complete),
        "confidence_interval": [None, None],
        "reason": f"the condition {REMOVED!r} was not asked",
    }


def _scores(answered: ByQuestion, condition: str) -> list[float]:
    return [by[condition].score for by in answered]


def _reliance(answered: ByQuestion, condition: str, options: Mapping[str, int]) -> dict[str, Any]:
    original, changed = _scores(answered, ORIGINAL), _scores(answered, condition)
    return visual_reliance_score(original, changed, groups=_groups(answered), **options)


def _groups(answered: ByQuestion) -> list[str]:
    """Return what questions are resampled together: those about one picture; each alone where it is not known."""
    return [by[ORIGINAL].picture or by[ORIGINAL].id for by in answered]


def _control(complete: ByQuestion, options: Mapping[str, int]) -> dict[str, Any]:
    control = _reliance(complete, RANDOM, options) if complete else {}
    overlap = _mean([by[RANDOM].overlap for by in complete])
    result = {
        "random_masked_accuracy": control.get("masked_accuracy"),
        "random_reliance_score": control.get("visual_reliance_score"),
        "random_confidence_interval": control.get("confidence_interval", [None, None]),
        "random_overlap": overlap,
        "over_random": _difference(complete, options) if complete else None,
    }
    if overlap is not None and overlap > _LARGEST_OVERLAP:
        result["random_note"] = (
            f"{overlap:.0%} of the random boxes' area is on the evidence, because there was no room elsewhere: the "
            "control removes evidence, too"
        )
    return result


def _difference(complete: ByQuestion, options: Mapping[str, int]) -> dict[str, Any]:
    """Return VRS minus that of random boxes: (random - removed) / original."""
    scores = np.array([[by[name].score for name in (ORIGINAL, REMOVED, RANDOM)] for by in complete])

    def difference(totals: FloatArray) -> FloatArray:
        return ratio(totals[:, 2] - totals[:, 1], totals[:, 0])

    value = float(difference(scores.sum(axis=0, keepdims=True))[0])
    interval = clustered_interval(difference, scores, _groups(complete), **options)
    return {"value": None if np.isnan(value) else value, "confidence_interval": list(interval or (None, None))}


def _condition(everything: ByQuestion, name: str, options: Mapping[str, int]) -> dict[str, Any]:
    answered = [by for by in everything if name in by]
    found = _reliance(answered, name, options)
    return {
        "n": len(answered),
        "accuracy": found["masked_accuracy"],
        "accuracy_original": found["accuracy"],
        "reliance": found["visual_reliance_score"],
        "confidence_interval": found["confidence_interval"],
        "unparsed": sum(not by[name].parsed for by in answered),
    }


def _all_questions(everything: ByQuestion, options: Mapping[str, int]) -> dict[str, Any]:
    """Return the score over all questions: one without evidence has nothing to lose."""
    unchanged = [{**by, REMOVED: by.get(REMOVED, by[ORIGINAL])} for by in everything]
    return _reliance(unchanged, REMOVED, options)


def _floor_normalized(complete: ByQuestion) -> dict[str, float | None]:
    """Return (accuracy - without evidence) / (accuracy - without the image), for each way to be without the image."""
    found = {}
    for floor in _FLOORS:
        answered = [by for by in complete if floor in by]
        if answered:
            original, removed, lowest = (np.mean(_scores(answered, name)) for name in (ORIGINAL, REMOVED, floor))
            found[floor] = float((original - removed) / (original - lowest)) if original > lowest else None
    return found


def _sufficiency(everything: ByQuestion) -> float | None:
    """Return accuracy with nothing but the evidence / accuracy: 1 if it is enough; None where it was not asked."""
    answered = [by for by in everything if "kept" in by]
    original = sum(_scores(answered, ORIGINAL))
    return sum(_scores(answered, "kept")) / original if original else None


def _grounding(everything: ByQuestion) -> dict[str, int] | None:
    """Count answers by FPVG: grounded ones stay when only the evidence is kept and change when it is removed."""
    answered = [by for by in everything if by.keys() >= {"kept", REMOVED}]
    if not answered:
        return None
    counts = Counter({f"{how}, {what}": 0 for how in ("grounded", "ungrounded") for what in ("right", "wrong")})
    for by in answered:
        original, kept, removed = (normalize_answer(by[name].answer) for name in (ORIGINAL, "kept", REMOVED))
        how = "grounded" if original == kept != removed else "ungrounded"
        counts[f"{how}, {'right' if by[ORIGINAL].score >= 0.5 else 'wrong'}"] += 1
    return dict(counts)


def _by_reference(complete: ByQuestion, options: Mapping[str, int]) -> dict[str, Any]:
    """Return yes/no questions by their right answer; nothing for other questions."""
    references = {normalize_answer(by[ORIGINAL].references[0]) for by in complete if by[ORIGINAL].references}
    if not references or not references <= {"yes", "no"}:
        return {}
    return _by(complete, lambda answer: normalize_answer(answer.references[0]), options)


def _by(complete: ByQuestion, name_of: Any, options: Mapping[str, int]) -> dict[str, Any]:
    counts = Counter(name_of(by[ORIGINAL]) for by in complete)
    named = {name for name, _ in counts.most_common(_CATEGORIES if len(counts) <= _CATEGORIES else _CATEGORIES - 1)}
    groups: dict[str, list[Mapping[str, Answer]]] = {}
    for by in complete:
        name = name_of(by[ORIGINAL])
        groups.setdefault(name if name in named else _OTHER, []).append(by)
    return {name: _reliance(groups[name], REMOVED, options) for name in sorted(groups)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
