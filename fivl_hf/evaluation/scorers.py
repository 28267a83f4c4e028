"""Scorers of answers, by name: how each benchmark, and each harness, decides whether an answer is right.

A scorer takes an answer and its references and returns a score from 0 to 1, or None where the answer cannot be parsed,
which counts as wrong but is counted. A parser changes an accuracy more than most models do: results name theirs.
"""

import re
import string
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from fivl_hf.evaluation.scoring import exact_match, normalize_answer
from fivl_hf.evaluation.vqa import vqa_form

__all__ = ["RIGHT", "SCORERS", "Scorer", "default_scorer", "default_suffix", "judge_model", "scorer"]

_JUDGE = "judge:"

RIGHT = 0.5
"""The score from which an answer counts as right."""

Scorer = Callable[[str, Sequence[str]], float | None]

_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LABELS = {"yes", "no"}
_PACKAGES = {"bleu": ("sacrebleu", "sacrebleu"), "rouge": ("rouge_score.rouge_scorer", "rouge-score")}
_BENCHMARKS = {"POPE": "pope-vlmevalkit", "VQAv2": "vqa", "GQA": "gqa"}
# What LLaVA's evaluation and the common harnesses add to the questions of all three.
_SHORT_ANSWER = "\nAnswer the question using a single word or phrase."


def scorer(name: str) -> Scorer:
    """Return the scorer of a name.

    Raises:
        ValueError: there is none, or a package that it needs is not installed.
    """
    if judge_model(name) is not None:
        raise ValueError(f"a judge scores answers that are there already: fivl score FOLDER --scorer {name}")
    if name not in SCORERS:
        raise ValueError(
            f"there is no scorer {name!r}; there are {', '.join(sorted(SCORERS))} and, in fivl score, {_JUDGE}MODEL"
        )
    if name in _PACKAGES:  # At once, not at the first answer.
        _package(*_PACKAGES[name])
    return SCORERS[name]


def judge_model(name: str) -> str | None:
    """Return the language model of a scorer such as "judge:gpt-4o"; None for other scorers.

    Raises:
        ValueError: a judge without a model.
    """
    if name == _JUDGE:
        raise ValueError(f"{_JUDGE!r} needs the name of a model, as in {_JUDGE}gpt-4o")
    return name.removeprefix(_JUDGE) if name.startswith(_JUDGE) else None


def default_scorer(source: str) -> str:
    """Return the name of the scorer for a benchmark's questions, by the rows' ``source``; "exact" for others."""
    return _BENCHMARKS.get(source, "exact")


def default_suffix(source: str) -> str:
    """Return what is added to a benchmark's questions, by the rows' ``source``; nothing for others."""
    return _SHORT_ANSWER if source in _BENCHMARKS else ""


def _contains(answer: str, references: Sequence[str]) -> float | None:
    """Return 1 if any reference is in the answer as whole words, whatever the case.

    To a yes/no question, an answer with both words is not parsed.
    """
    words = _words(answer)
    is_ambiguous = set(words) >= _LABELS and {normalize_answer(each) for each in references} <= _LABELS
    if not words or is_ambiguous:
        return None
    return float(any(_holds(words, _words(reference)) for reference in references))


def _gqa(answer: str, references: Sequence[str]) -> float | None:
    """Return 1 if the answer equals a reference but for case and punctuation, as GQA's questions are scored."""
    plain = _without_punctuation(answer)
    return float(plain in map(_without_punctuation, references)) if plain else None


def _vqa(answer: str, references: Sequence[str]) -> float | None:
    """Return VQA v2's accuracy: the mean over all choices of all but one reference of min(matches / 3, 1).

    Of ten references, one match gives 0.3, two 0.6, three 0.9, four or more 1. A single reference is matched or not.
    Answers are compared in VQA's normal form, also where all references are equal; VQA's own evaluation compares them
    as they are there, so that "Yes" is wrong against ten times "yes".
    """
    given = vqa_form(answer)
    if not given:
        return None
    matches = [vqa_form(reference) == given for reference in references]
    if len(matches) < 2:
        return float(any(matches))
    total = sum(matches)
    return sum(min((total - match) / 3, 1.0) for match in matches) / len(matches)


def _pope_lmms_eval(answer: str, references: Sequence[str]) -> float | None:
    """Return 1 if the answer is the label and nothing else, as lmms-eval does; "Yes, there is." is not parsed."""
    label = answer.strip().lower()
    return _against(label if label in _LABELS else None, references)


def _pope_vlmevalkit(answer: str, references: Sequence[str]) -> float | None:
    """Return 1 if the only one of the words "yes" and "no" in the answer is the label, as VLMEvalKit does."""
    labels = _LABELS & set(_words(answer))
    return _against(labels.pop() if len(labels) == 1 else None, references)


def _pope_llava(answer: str, references: Sequence[str]) -> float | None:
    """Return 1 if the label is "no" and the first sentence has "No", "no" or "not", or it is "yes" and has none.

    LLaVA's own evaluation parses everything; here an empty answer, which it takes for "yes", is not parsed.
    """
    if not answer.strip():
        return None
    words = answer.partition(".")[0].replace(",", "").split()
    return _against("no" if {"No", "no", "not"} & set(words) else "yes", references)


def _rouge(answer: str, references: Sequence[str]) -> float | None:
    """Return the best ROUGE-L F-measure against any reference, without stemming; for captions."""
    if not answer.strip():
        return None
    rouge = _package(*_PACKAGES["rouge"]).RougeScorer(["rougeL"])
    return float(rouge.score_multi(list(references), answer)["rougeL"].fmeasure)


def _bleu(answer: str, references: Sequence[str]) -> float | None:
    """Return sacrebleu's sentence BLEU against all references, 0 to 1; for captions."""
    if not answer.strip():
        return None
    percent = _package(*_PACKAGES["bleu"]).sentence_bleu(answer, list(references)).score
    return min(float(percent) / 100, 1.0)  # 100.00000000000004 of equal texts


def _package(module: str, distribution: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(f"this scorer needs {distribution}: pip install {distribution}") from error


def _against(label: str | None, references: Sequence[str]) -> float | None:
    if label is None:
        return None
    return float(label in {normalize_answer(reference) for reference in references})


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORDS.findall(text)]


def _holds(words: Sequence[str], part: Sequence[str]) -> bool:
    return bool(part) and any(
        list(words[start : start + len(part)]) == list(part) for start in range(len(words) - len(part) + 1)
    )


def _without_punctuation(text: str) -> str:
    return " ".join(text.casefold().translate(_PUNCTUATION).split())


SCORERS: dict[str, Scorer] = {
    "bleu": _bleu,
    "contains": _contains,
    "exact": lambda answer, references: exact_match(answer, references) if answer.strip() else None,
    "gqa": _gqa,
    "pope-llava": _pope_llava,
    "pope-lmms-eval": _pope_lmms_eval,
    "pope-vlmevalkit": _pope_vlmevalkit,
    "rouge": _rouge,
    "vqa": _vqa,
}
