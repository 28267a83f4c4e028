"""Evaluations of several models, side by side: on one benchmark, question by question, and over several benchmarks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fivl_hf.evaluation.conditions import with_fill
from fivl_hf.evaluation.judge import VERDICTS, not_judged
from fivl_hf.evaluation.reliance import visual_reliance_score
from fivl_hf.evaluation.scorers import judge_model
from fivl_hf.evaluation.scores import Scores, collect
from fivl_hf.evaluation.statistics import (
    accuracy_permutation,
    holm,
    mcnemar_midp,
    rank_correlation,
    reliance_permutation,
)
from fivl_hf.evaluation.summary import rescored
from fivl_hf.evaluation.table import ORIGINAL, REMOVED, answers_file, measured_with, read_answers
from fivl_hf.masks import FloatArray
from fivl_hf.show.plots import scatter_models

__all__ = ["Evaluated", "compare", "comparison_figure", "comparison_lines", "read_evaluated"]

_NOTHING_RIGHT = "no answer is right on the original images"


@dataclass(frozen=True)
class Evaluated:
    """One model's answers to one benchmark.

    Attributes:
        name: of the model.
        benchmark: dataset and split.
        removed: the condition under which the evidence is removed, such as "removed-blur".
    """

    name: str
    scores: Scores
    scorer_name: str = "exact"
    benchmark: str = ""
    removed: str = REMOVED


def read_evaluated(
    folders: Sequence[Path], scorer_name: str | None = None, *, fill: str | None = None
) -> list[Evaluated]:
    """Read evaluations.

    Models have the names of their folders; where the folders are of several benchmarks, those that were recorded.

    Args:
        scorer_name, fill: of the score, see :func:`fivl_hf.evaluation.summary.summarize`; those of each folder's
            ``reliance.json`` if not given.

    Raises:
        FileNotFoundError: a folder that holds no answers.
        ValueError: a line that is not an answer, an unknown scorer or fill, or one model twice on one benchmark.
    """
    files = [answers_file(folder) for folder in folders]
    recorded = [measured_with(folder) for folder in folders]
    benchmarks = [_benchmark(each) for each in recorded]
    names = _last_parts([str(folder.resolve()) for folder in folders])
    if len(set(benchmarks)) > 1:
        names = _last_parts([str(each.get("model", name)) for each, name in zip(recorded, names, strict=True)])
    if len(set(zip(names, benchmarks, strict=True))) < len(names):
        raise ValueError("two evaluations are of one model on one benchmark: give each once")
    evaluated = []
    for file, about, name, benchmark in zip(files, recorded, names, benchmarks, strict=True):
        chosen = scorer_name or str(about.get("scoring") or "exact")
        if judge_model(chosen) is not None and about.get("scoring") != chosen:
            raise not_judged(file.parent, chosen)
        try:
            scores = collect(rescored(read_answers(file), chosen, file.parent / VERDICTS))
        except ValueError as error:
            raise ValueError(f"{file.parent}: {error}") from error
        filled = fill or str(about.get("fill") or "black")
        evaluated.append(Evaluated(name, scores, chosen, benchmark, with_fill(REMOVED, filled)))
    return evaluated


def _benchmark(about: Mapping[str, Any]) -> str:
    names = [str(about[key]) for key in ("dataset", "dataset_config", "split") if about.get(key)]
    return " ".join([Path(names[0]).name, *names[1:]]) if names else ""


def _last_parts(paths: Sequence[str]) -> list[str]:
    """Return the last part of each path; whole paths where two different ones end alike."""
    last = {path: Path(path).name or path for path in paths}
    return [last[path] for path in paths] if len(set(last.values())) == len(last) else list(paths)


def compare(evaluated: Sequence[Evaluated], *, seed: int = 0, permutations: int = 10_000) -> dict[str, Any]:
    """Compare models on the questions with evidence that all of them answered.

    Returns:
        ``benchmarks``: of each, ``n``, ``pictures`` (number of images), ``scoring``, ``removed`` (the condition),
        ``accuracy_test``, ``models`` (of each, the Visual Reliance Score's result) and ``pairs`` (of each two, the
        differences of accuracy and reliance, with p-values, adjusted by Holm over the benchmark: ``p_adjusted``);
        ``means``: of each model, mean score and accuracy over the benchmarks, None unless it was asked all of them;
        ``correlation``: of each benchmark, Spearman's of accuracy and score over its models, with an interval. Reliance
        is tested by permutation of images; accuracy by mid-p McNemar if each image has one question, else by
        permutation of images, too.

    Raises:
        ValueError: fewer than two evaluations, no common question, references, scorers or fills that differ.
    """
    if len(evaluated) < 2:
        raise ValueError("a comparison needs at least two evaluations")
    benchmarks: dict[str, list[Evaluated]] = {}
    for each in evaluated:
        benchmarks.setdefault(each.benchmark, []).append(each)
    results = {
        name: _compare_on_one(models, seed=seed, permutations=permutations) for name, models in benchmarks.items()
    }
    names = list(dict.fromkeys(each.name for each in evaluated))
    return {
        "benchmarks": results,
        "means": {name: _means([result["models"].get(name) for result in results.values()]) for name in names},
        "correlation": _correlation(results, seed=seed),
    }


def _means(results: Sequence[Mapping[str, Any] | None]) -> dict[str, float | str | None]:
    """Return a model's means over all benchmarks, None with a ``reason`` where one lacks a number."""
    means: dict[str, float | str | None] = {}
    for what in ("visual_reliance_score", "accuracy"):
        values = [each and each[what] for each in results]
        means[what] = None if None in values else float(np.mean(np.array(values, dtype=np.float64)))
    if None in means.values():
        means["reason"] = "it was not asked all benchmarks" if None in results else _NOTHING_RIGHT
    return means


def _correlation(results: Mapping[str, Mapping[str, Any]], *, seed: int) -> dict[str, Any]:
    """Correlate score and accuracy over the models of each benchmark."""
    correlations = {}
    for name, result in results.items():
        pairs = [
            (found["accuracy"], found["visual_reliance_score"])
            for found in result["models"].values()
            if found["visual_reliance_score"] is not None
        ]
        correlations[name] = rank_correlation(*zip(*pairs, strict=True), seed=seed) if pairs else None
    return {
        name: found or {"n": 0, "value": None, "confidence_interval": [None, None], "reason": "no score is defined"}
        for name, found in correlations.items()
    }


def _compare_on_one(evaluated: Sequence[Evaluated], *, seed: int, permutations: int) -> dict[str, Any]:
    scorers = {each.name: each.scorer_name for each in evaluated}
    if len(set(scorers.values())) > 1:
        shown = ", ".join(f"{name} by {scorer}" for name, scorer in scorers.items())
        raise ValueError(f"the evaluations are scored by different scorers ({shown}): name one with --scorer")
    conditions = {each.name: each.removed for each in evaluated}
    if len(set(conditions.values())) > 1:
        shown = ", ".join(f"{name} by {condition}" for name, condition in conditions.items())
        raise ValueError(f"the evaluations are scored by different fills ({shown}): name one with --fill")
    places = _common(evaluated)
    scores = {each.name: _pairs(each, chosen) for each, chosen in zip(evaluated, places, strict=True)}
    groups = list(evaluated[0].scores.pictures[places[0]])
    models = {name: visual_reliance_score(*each, groups=groups, seed=seed) for name, each in scores.items()}
    pictures = len(set(groups))
    one_question_each = pictures == len(groups)
    permuting: dict[str, Any] = {"groups": groups, "permutations": permutations, "seed": seed}
    pairs = []
    for a, b in combinations(scores, 2):
        reliance = [models[name]["visual_reliance_score"] for name in (a, b)]
        both = None not in reliance
        right = scores[a][0], scores[b][0]
        pairs.append(
            {
                "models": [a, b],
                "accuracy_difference": models[a]["accuracy"] - models[b]["accuracy"],
                "accuracy_p": mcnemar_midp(*right) if one_question_each else accuracy_permutation(*right, **permuting),
                "reliance_difference": reliance[0] - reliance[1] if both else None,
                **({} if both else {"reason": _NOTHING_RIGHT}),
                "reliance_p": reliance_permutation(scores[a], scores[b], **permuting) if both else None,
            }
        )
    tested = [(pair, what) for pair in pairs for what in ("accuracy", "reliance") if pair[f"{what}_p"] is not None]
    for (pair, what), adjusted in zip(tested, holm([pair[f"{what}_p"] for pair, what in tested]), strict=True):
        pair[f"{what}_p_adjusted"] = adjusted
    return {
        "n": len(groups),
        "pictures": pictures,
        "scoring": evaluated[0].scorer_name,
        "removed": evaluated[0].removed,
        "accuracy_test": "mid-p McNemar" if one_question_each else "permutation of images",
        "models": models,
        "pairs": pairs,
    }


def _common(evaluated: Sequence[Evaluated]) -> list[NDArray[np.int64]]:
    """Return, for each model, the places of the questions with evidence that all answered on both images."""
    ids = [each.scores.ids for each in evaluated]
    places = [{id: i for i, id in enumerate(listed)} for listed in ids]
    complete = [each.scores.asked(ORIGINAL, each.removed) for each in evaluated]
    common = [
        id
        for id in ids[0]
        if all(id in known and done[known[id]] for known, done in zip(places, complete, strict=True))
    ]
    if not common:
        without = [each for each in evaluated if each.removed not in each.scores.conditions]
        why = (
            f"{without[0].name} was not asked under {without[0].removed!r}" if without else "are these of one dataset?"
        )
        raise ValueError(f"no question was answered by all models with and without its evidence: {why}")
    chosen = [np.array([known[id] for id in common], dtype=np.int64) for known in places]
    for each, taken in zip(evaluated, chosen, strict=True):
        differ = each.scores.references[taken] != evaluated[0].scores.references[chosen[0]]
        if differ.any():
            id = common[int(differ.argmax())]
            raise ValueError(f"question {id!r} has other references in one of the evaluations: other datasets?")
    return chosen


def _pairs(each: Evaluated, chosen: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    return each.scores.of(ORIGINAL)[chosen], each.scores.of(each.removed)[chosen]


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a comparison as text: for each benchmark a table of models and one of pairs, then one of them all."""
    lines: list[str] = []
    for name, found in result["benchmarks"].items():
        lines += [*([name] if len(result["benchmarks"]) > 1 else []), *_benchmark_lines(found), ""]
    if len(result["benchmarks"]) > 1:
        lines += [*_overview_lines(result), ""]
    for name, found in result["correlation"].items():
        if found["value"] is not None:
            low, high = found["confidence_interval"]
            lines.append(
                f"rank correlation of accuracy and reliance over {found['n']} models{name and ', ' + name}: "
                f"{found['value']:.2f} [{low:.2f}, {high:.2f}]"
            )
    return lines[:-1] if not lines[-1] else lines


def comparison_figure(result: Mapping[str, Any]) -> Figure | None:
    """Draw accuracy against Visual Reliance Score, a panel for each benchmark; None if no score is defined."""
    panels, notes = {}, {}
    for name, found in result["benchmarks"].items():
        points = {
            model: (each["accuracy"], each["visual_reliance_score"])
            for model, each in found["models"].items()
            if each["visual_reliance_score"] is not None
        }
        if points:
            panels[name] = points
        correlation = result["correlation"][name]
        if correlation["value"] is not None:
            low, high = correlation["confidence_interval"]
            notes[name] = f"rank correlation {correlation['value']:.2f} [{low:.2f}, {high:.2f}]"
    return scatter_models(panels, "accuracy", "Visual Reliance Score", notes) if panels else None


def _overview_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the table of models × benchmarks: reliance, accuracy in brackets."""
    benchmarks = result["benchmarks"]
    lines = ["reliance (accuracy)", f"{'model':<28}" + "".join(f"  {name[:18]:>18}" for name in [*benchmarks, "mean"])]
    for name, mean in result["means"].items():
        cells = [*(found["models"].get(name) for found in benchmarks.values()), mean]
        shown = ["–" if cell is None else _both(cell) for cell in cells]
        lines.append(f"{name[:28]:<28}" + "".join(f"  {each:>18}" for each in shown))
    return lines


def _both(found: Mapping[str, Any]) -> str:
    return f"{_number(found['visual_reliance_score'])} ({_number(found['accuracy'])})"


def _benchmark_lines(result: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{result['n']:,} questions with evidence about {result['pictures']:,} images, answered by all, scored by "
        f"{result['scoring']}, the evidence {result['removed']}",
        f"{'model':<28}  accuracy  without evidence  reliance    95% interval",
    ]
    for name, found in result["models"].items():
        low, high = found["confidence_interval"]
        between = "–" if low is None else f"[{low:.3f}, {high:.3f}]"
        lines.append(
            f"{name[:28]:<28}  {_number(found['accuracy']):>8}  {_number(found['masked_accuracy']):>16}  "
            f"{_number(found['visual_reliance_score']):>8}  {between:>14}"
        )
    if not result["pairs"]:
        return lines
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
