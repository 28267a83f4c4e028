"""Measurements of a model trained on free scenes, on the same questions, captions and rows for every model."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from attack import EPSILONS, attacked
from changes import IMAGE_CHANGES, changed, names_seen, names_unseen
from study import TEST_SEED, subset_size

from fivl_hf.augment.scenes import scene_questions, scene_rows
from fivl_hf.evaluation.plan import DEFAULT_CONDITIONS
from fivl_hf.evaluation.runner import evaluate_reliance
from fivl_hf.evaluation.scorers import scorer
from fivl_hf.evaluation.table import ORIGINAL, AnswerTable
from fivl_hf.explain.analysis import explain
from fivl_hf.explain.effects import answer_tokens, token_log_probabilities
from fivl_hf.explain.linear_probe import probe_patches
from fivl_hf.explain.samples import prepare_batch, readable

__all__ = ["measure"]

Row = dict[str, Any]
STYLES = ("outlined", "photographs", "flipped")


def measure(model: Any, processor: Any, style: str, count: int) -> dict[str, float | None]:
    """Return a model's figures by name.

    Args:
        style: of the scenes that it is asked about.
        count: questions for accuracy and reliance, the same number of each kind; other figures take a subset.
    """
    model.eval()
    few = subset_size(count)
    asked = _questions(style, count)
    return {
        **_reliance(model, processor, asked),
        **_captions(model, processor, style, few),
        **_heads(model, processor, style, few),
        **_robustness(model, processor, asked[:few]),
        **_transfer(model, processor, style, few),
    }


@cache
def _questions(style: str, count: int, seed: int = TEST_SEED, kinds: tuple[str, ...] = ()) -> list[Row]:
    return list(scene_questions("test", count, seed, style=style, kinds=kinds))


@cache
def _conversations(split: str, style: str, count: int) -> list[Row]:
    return list(scene_rows(split, count, TEST_SEED, style=style))


def _reliance(model: Any, processor: Any, rows: list[Row]) -> dict[str, float | None]:
    """Return accuracy, by kind, and reliance; a grey image shows what language alone answers."""
    options: dict[str, Any] = {"batch_size": 128, "max_new_tokens": 16, "resamples": 100}
    conditions = (*DEFAULT_CONDITIONS, "blank")
    found, answers = evaluate_reliance(model, processor, rows, conditions=conditions, **options)
    by_kind = found["all_questions"]["by_category"]
    blank: dict[str, list[float | None]] = {kind: [] for kind in by_kind}
    for answer in answers:
        if answer.condition == "blank":
            blank[answer.category].append(answer.score)
    return {
        "accuracy": found["accuracy_all_questions"],
        **{f"accuracy, {kind}": by_kind[kind]["accuracy"] for kind in sorted(by_kind)},
        "accuracy, grey image": found["conditions"]["blank"]["accuracy"],
        **{f"accuracy, {kind}, grey image": _mean(blank[kind]) for kind in sorted(by_kind)},
        "VRS": found["visual_reliance_score"],
        "VRS, random boxes": found["random_reliance_score"],
    }


def _answers(model: Any, processor: Any, rows: Sequence[Row], longest: int = 16) -> AnswerTable:
    options: dict[str, Any] = {"batch_size": 128, "max_new_tokens": longest, "resamples": 10}
    return evaluate_reliance(model, processor, rows, conditions=[ORIGINAL], **options)[1]


def _accuracy(model: Any, processor: Any, rows: Sequence[Row]) -> float:
    return _mean(answer.score for answer in _answers(model, processor, rows))


def _captions(model: Any, processor: Any, style: str, count: int) -> dict[str, float | None]:
    """Return BLEU and ROUGE-L of greedy captions against the scene's own, and the perplexity of these."""
    rows = _questions(style, count, TEST_SEED + 1, ("caption",))
    answers = list(_answers(model, processor, rows, 40))
    scores = {name: [scorer(name)(a.answer, a.references) for a in answers] for name in ("bleu", "rouge")}
    return {
        "BLEU": _mean(scores["bleu"]),
        "ROUGE-L": _mean(scores["rouge"]),
        "caption exact": _mean([answer.score for answer in answers]),
        "perplexity": _perplexity(model, processor, rows),
    }


def _perplexity(model: Any, processor: Any, rows: Sequence[Row]) -> float:
    """Return the perplexity of the reference answers, end marks included."""
    samples = prepare_batch(model, processor, [readable(row) for row in rows])
    tokens = [answer_tokens(sample) for sample in samples]
    found = token_log_probabilities(model, samples[0].inputs, tokens)
    return float(np.exp(-np.concatenate([values for values, _ in found]).mean()))


def _mean(values: Iterable[float | None]) -> float:
    return float(np.mean([0.0 if value is None else value for value in values]))


def _heads(model: Any, processor: Any, style: str, count: int) -> dict[str, float | None]:
    rows = _conversations("test", style, count)
    explanation = explain(model, processor, rows, batch_size=32)
    auroc = explanation.measures["auroc"]["held_out"]
    best = explanation.best_heads(1)
    probe = probe_patches(model, processor, _conversations("validation", style, 2 * count), rows, batch_size=64)
    return {
        "IoU": explanation.segmentation["iou"],
        "AUROC": auroc["value"],
        "best head": best[0]["score"] if best else None,
        "probe, tower": probe["tower"]["accuracy"],
        "probe, language model": probe["language_model"]["accuracy"],
        "probe, most frequent": probe["most_frequent"],
    }


def _robustness(model: Any, processor: Any, rows: list[Row]) -> dict[str, float | None]:
    """Return accuracy on a part of the questions as they are, with changed images, and under attack."""
    return {
        "accuracy, before changes": _accuracy(model, processor, rows),
        **{f"accuracy, {kind}": _accuracy(model, processor, changed(rows, kind)) for kind in IMAGE_CHANGES},
        **{
            f"accuracy, PGD {epsilon}/255": _accuracy(model, processor, attacked(model, processor, rows, epsilon))
            for epsilon in EPSILONS
        },
    }


def _transfer(model: Any, processor: Any, style: str, count: int) -> dict[str, float | None]:
    other = {f"accuracy, {name}": _questions(name, count) for name in STYLES}
    rows = _questions(style, 12 * count, TEST_SEED + 2, ("color", "shape", "relation"))
    other["accuracy, unseen pairs"] = [row for row in rows if names_unseen(row["answers"][0])][:count]
    other["accuracy, seen pairs"] = [row for row in rows if names_seen(row)][:count]
    return {name: _accuracy(model, processor, rows) for name, rows in other.items()}
