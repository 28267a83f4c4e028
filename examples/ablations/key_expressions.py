"""Precision and recall of key expressions: on scenes, where they are known exactly, and on labelled answers.

python examples/ablations/key_expressions.py

``key_expressions/answers.jsonl`` holds answers in the style of LLaVA's data with 201 noun expressions, each labelled
twice, independently: does it name something that can be seen in the image? An expression that a tool proposes is right
when it overlaps one that both passes call a key expression; where the passes disagree, it does not count.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from study import RESULTS
from tables import interval_text, write_table

from fivl_hf.annotation.kappa import cohen_kappa, confusion
from fivl_hf.augment.expressions import Extraction, check_expressions
from fivl_hf.augment.extractors.noun_phrases import NounPhraseExtractor
from fivl_hf.augment.extractors.prompts import SEPARATOR, parse_expressions
from fivl_hf.bootstrap import clustered_interval, ratio
from fivl_hf.masks import FloatArray
from fivl_hf.scenes.free import free_scene
from fivl_hf.scenes.photographs import CUT_OUTS
from fivl_hf.scenes.questions import plural
from fivl_hf.scenes.styles import COLORS, SHAPES
from fivl_hf.schema import Turn

ANSWERS = Path(__file__).with_name("key_expressions") / "answers.jsonl"
_NOUNS = "|".join(
    sorted((name for noun in (*SHAPES, *CUT_OUTS) for name in (noun, plural(noun))), key=len, reverse=True)
)
_EXACT = re.compile(rf"(?:(?:one|two|three|four) )?(?:(?:{'|'.join(COLORS)}) )?(?:{_NOUNS})\b")
Span = tuple[int, int]
Tool = Callable[[Turn], Extraction]
Reply = Callable[[list[str]], tuple[str, str]]


@dataclass(frozen=True)
class Labelled:
    """An answer, its key expressions, and the expressions about which the labels disagree."""

    kind: str
    turn: Turn
    key: tuple[Span, ...]
    disputed: tuple[Span, ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1000, help="scenes, three answers each (default: 1,000)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the table")
    options = parser.parse_args()
    documents = [json.loads(line) for line in ANSWERS.read_text(encoding="utf-8").splitlines()]
    by_hand = list(_by_hand(documents))
    scenes = list(_of_scenes(options.scenes))
    offline = NounPhraseExtractor()
    without_ratings = NounPhraseExtractor(concrete=0)
    lines = []
    for title, extractor in (("offline, without ratings", without_ratings), ("offline", offline)):
        tool = partial(_extract, extractor)
        for kind in ("conversation", "detail", "reasoning"):
            lines.append(_line(title, f"labelled, {kind}", tool, [each for each in by_hand if each.kind == kind]))
        lines.append(_line(title, "labelled, all", tool, by_hand))
        lines.append(_line(title, "scenes", tool, scenes))
    for title, reply in _REPLIES.items():
        lines.append(_line(f"scripted model, {title}", "scenes", partial(_read, reply), scenes))
    agreement = f"the two passes agree with Cohen's κ = {_agreement(documents):.2f}"
    write_table(
        options.output / "key_expressions",
        "Key expressions found",
        ["tool and answers", "precision", "recall"],
        lines,
        f"{len(by_hand)} labelled answers; {agreement}. In brackets 95% intervals over answers.",
    )


def _by_hand(documents: Iterable[dict[str, Any]]) -> Iterable[Labelled]:
    for document in documents:
        spans = {(each["start"], each["end"]): each["labels"] for each in document["expressions"]}
        yield Labelled(
            document["kind"],
            Turn(document["question"], document["answer"]),
            tuple(span for span, labels in spans.items() if all(labels)),
            tuple(span for span, labels in spans.items() if any(labels) and not all(labels)),
        )


def _agreement(documents: Iterable[dict[str, Any]]) -> float:
    labels = [[str(label) for label in each["labels"]] for document in documents for each in document["expressions"]]
    first, second = zip(*labels, strict=True)
    return cohen_kappa(confusion(first, second, ["True", "False"])) or np.nan


def _of_scenes(count: int) -> Iterable[Labelled]:
    for style in ("free", "photographs"):
        for number in range(count // 2):
            for question, answer in free_scene(f"{style}-7-test-{number}").turns:
                key = tuple(match.span() for match in _EXACT.finditer(answer))
                yield Labelled("scene", Turn(question, answer), key)


def _extract(extractor: NounPhraseExtractor, turn: Turn) -> Extraction:
    return extractor.extract([turn])[0]


def _read(reply: Reply, turn: Turn) -> Extraction:
    text, format = reply([match.group() for match in _EXACT.finditer(turn.answer)])
    return check_expressions(parse_expressions(text, format), turn)


# What a language model may reply where these expressions are the right ones, and in which format.
_REPLIES: dict[str, Reply] = {
    "as asked": lambda right: (json.dumps({"expressions": right}), "json"),
    "as text, as in the release": lambda right: (SEPARATOR.join(right), "text"),
    "with articles": lambda right: (json.dumps({"expressions": [f"the {each}" for each in right]}), "json"),
    "with an invented one": lambda right: (json.dumps({"expressions": [*right, "wooden table"]}), "json"),
    "the last one forgotten": lambda right: (json.dumps({"expressions": right[:-1]}), "json"),
}


def _line(tool_name: str, answers: str, tool: Tool, labelled: Sequence[Labelled]) -> list[str]:
    """Return a line of the table; the bootstrap draws answers."""
    counts = np.array([_counts(tool(each.turn), each) for each in labelled], dtype=np.float64)
    precision, recall = (_with_interval(counts, statistic) for statistic in (_precision, _recall))
    return [f"{tool_name}, {answers}", precision, recall]


def _precision(totals: FloatArray) -> FloatArray:
    return ratio(totals[:, 0], totals[:, 0] + totals[:, 1])


def _recall(totals: FloatArray) -> FloatArray:
    return ratio(totals[:, 0], totals[:, 0] + totals[:, 2])


def _with_interval(counts: FloatArray, statistic: Callable[[FloatArray], FloatArray]) -> str:
    value = float(statistic(counts.sum(axis=0, keepdims=True))[0])
    return interval_text(value, clustered_interval(statistic, counts, resamples=2000))


def _counts(extraction: Extraction, labelled: Labelled) -> tuple[int, int, int]:
    """Return how many are right, wrong and missed."""
    proposed = [(mention.start, mention.end) for mention in extraction.mentions if mention.start >= 0]
    counted = [span for span in proposed if not _overlaps(span, labelled.disputed) or _overlaps(span, labelled.key)]
    right = sum(_overlaps(span, labelled.key) for span in counted)
    missed = sum(not _overlaps(span, proposed) for span in labelled.key)
    return right, len(counted) - right, missed


def _overlaps(span: Span, others: Iterable[Span]) -> bool:
    return any(span[0] < end and start < span[1] for start, end in others)


if __name__ == "__main__":
    main()
