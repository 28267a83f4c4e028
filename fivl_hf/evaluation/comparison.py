"""Evaluations of several models on the same questions, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from fivl_hf.evaluation.reliance import visual_reliance_score
from fivl_hf.evaluation.statistics import holm, mcnemar_midp, reliance_permutation
from fivl_hf.evaluation.summary import rescored
from fivl_hf.evaluation.table import ORIGINAL, REMOVED, Answer, answers_file, by_question, read_answers
from fivl_hf.files.results import read_settings

__all__ = ["Evaluated", "compare", "comparison_lines", "read_evaluated"]


@dataclass(frozen=True)
class Evaluated:
    """One model's answers: by question, the answer under each condition."""

    name: str
    answers: Mapping[str, Mapping[str, Answer]]
    scorer_name: str = "exact"


def read_evaluated(folder: Path, name: str, scorer_name: str | None = None) -> Evaluated:
    """Read the answers of an evaluation's folder, scored by the scorer named, or else by that of its ``reliance.json``.

    Raises:
        FileNotFoundError: the folder holds no answers.
        ValueError: a line that is not an answer, or an unknown scorer.
    """
    path, result = answers_file(folder), folder / "reliance.json"
    recorded = read_settings(result).get("scoring") if result.is_file() else None
    chosen = scorer_name or str(recorded or "exact")
    return Evaluated(name, by_question(rescored(read_answers(path), chosen)), chosen)


def compare(evaluated: Sequence[Evaluated], *, seed: int = 0, permutations: int = 10_000) -> dict[str, Any]:
    """Compare models on the questions with evidence that all of them answered.

    Returns:
        ``n``; ``models``: of each, the Visual Reliance Score's result; ``pairs``: of each two, the differences of
        accuracy and reliance, with p-values by mid-p McNemar and by permutation of pictures, adjusted by Holm over all
        of them (``p_adjusted``).

    Raises:
        ValueError: fewer than two models, no common question, or references that differ.
    """
    if len(evaluated) < 2:
        raise ValueError("a comparison needs at least two evaluations")
    scorers = {each.name: each.scorer_name for each in evaluated}
    if len(set(scorers.values())) > 1:
        shown = ", ".join(f"{name} by {scorer}" for name, scorer in scorers.items())
        raise ValueError(f"the evaluations are scored by different scorers ({shown}): name one with --scorer")
    common = _common(evaluated)
    scores = {each.name: _scores(each, common) for each in evaluated}
    groups = [evaluated[0].answers[id][ORIGINAL].picture or id for id in common]
    pairs = []
    for a, b in combinations([each.name for each in evaluated], 2):
        (right_a, masked_a), (right_b, masked_b) = scores[a], scores[b]
        found = [visual_reliance_score(*scores[name], groups=groups, resamples=1) for name in (a, b)]
        reliance = [each["visual_reliance_score"] for each in found]
        pairs.append(
            {
                "models": [a, b],
                "accuracy_difference": found[0]["accuracy"] - found[1]["accuracy"],
                "accuracy_p": mcnemar_midp(right_a, right_b),
                "reliance_difference": None if None in reliance else reliance[0] - reliance[1],
                "reliance_p": None
                if None in reliance
                else reliance_permutation(
                    (right_a, masked_a), (right_b, masked_b), groups, permutations=permutations, seed=seed
                ),
            }
        )
    tested = [(pair, what) for pair in pairs for what in ("accuracy", "reliance") if pair[f"{what}_p"] is not None]
    for (pair, what), adjusted in zip(tested, holm([pair[f"{what}_p"] for pair, what in tested]), strict=True):
        pair[f"{what}_p_adjusted"] = adjusted
    models = {name: visual_reliance_score(*each, groups=groups, seed=seed) for name, each in scores.items()}
    scoring = evaluated[0].scorer_name
    return {"n": len(common), "pictures": len(set(groups)), "scoring": scoring, "models": models, "pairs": pairs}


def _common(evaluated: Sequence[Evaluated]) -> list[str]:
    """Return the ids of the questions with evidence that all models answered on both images, in the first's order."""
    complete = [{id for id, by in each.answers.items() if by.keys() >= {ORIGINAL, REMOVED}} for each in evaluated]
    common = [id for id in evaluated[0].answers if all(id in ids for ids in complete)]
    if not common:
        without = [each.name for each in evaluated if not any(REMOVED in by for by in each.answers.values())]
        why = f"{without[0]} was not asked under {REMOVED!r}" if without else "are these of one dataset?"
        raise ValueError(f"no question was answered by all models with and without its evidence: {why}")
    for id in common:
        references = {each.answers[id][ORIGINAL].references for each in evaluated}
        if len(references) > 1:
            raise ValueError(f"question {id!r} has other references in one of the evaluations: other datasets?")
    return common


def _scores(each: Evaluated, ids: Sequence[str]) -> tuple[list[float], list[float]]:
    original, removed = ([each.answers[id][name].score for id in ids] for name in (ORIGINAL, REMOVED))
    return original, removed


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a comparison as a table of models and one of pairs."""
    lines = [
        f"{result['n']:,} questions with evidence about {result['pictures']:,} images, answered by all, scored by "
        f"{result['scoring']}",
        f"{'model':<28}  accuracy  without evidence  reliance    95% interval",
    ]
    for name, found in result["models"].items():
        low, high = found["confidence_interval"]
        between = "–" if low is None else f"[{low:.3f}, {high:.3f}]"
        lines.append(
            f"{name[:28]:<28}  {_number(found['accuracy']):>8}  {_number(found['masked_accuracy']):>16}  "
            f"{_number(found['visual_reliance_score']):>8}  {between:>14}"
        )
    lines += ["", f"{'pair':<40}  Δ accuracy  p (Holm)  Δ reliance  p (Holm)"]
    for pair in result["pairs"]:
        lines.append(
            f"{' − '.join(pair['models'])[:40]:<40}  {pair['accuracy_difference']:>+10.3f}  "
            f"{pair['accuracy_p_adjusted']:>8.3f}  {_number(pair['reliance_difference'], '+'):>10}  "
            f"{_number(pair.get('reliance_p_adjusted')):>8}"
        )
    return lines


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"
