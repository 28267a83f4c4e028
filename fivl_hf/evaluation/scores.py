"""The scores of an evaluation as arrays: questions × conditions, whatever the order of the answers."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivl_hf.evaluation.conditions import kind_of
from fivl_hf.evaluation.scoring import normalize_answer
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, Answer
from fivl_hf.files.fingerprints import text_digest
from fivl_hf.masks import BoolArray, FloatArray

__all__ = ["Scores", "collect"]


@dataclass(frozen=True)
class Scores:
    """Scores of N questions, sorted by id, under C conditions.

    Attributes:
        ids: of the questions.
        conditions: their names, sorted.
        values: (N, C) score of each answer, 0 to 1; NaN where there is none.
        unparsed: (N, C) whether the scorer could not read the answer.
        answers: (N, C) a number that equal answers share, whatever their case and punctuation.
        overlap: (N,) share of the random boxes' area that lies on the evidence.
        endings: of each condition, how many answers ended for a reason other than "stop", and how many are empty.
        has_evidence: (N,).
        categories: (N,) texts.
        pictures: (N,) what questions are resampled together.
        first_references: (N,) the first reference of each question, normalised.
        references: (N,) a digest of all references.
    """

    ids: Sequence[str]
    conditions: tuple[str, ...]
    values: FloatArray
    unparsed: BoolArray
    answers: NDArray[np.uint64]
    overlap: FloatArray
    endings: Mapping[str, Mapping[str, int]]
    has_evidence: BoolArray
    categories: NDArray[np.object_]
    pictures: NDArray[np.object_]
    first_references: NDArray[np.object_]
    references: NDArray[np.uint64]

    def asked(self, *conditions: str) -> BoolArray:
        """Return (N,) which questions were answered under all of some conditions."""
        if not set(conditions) <= set(self.conditions):
            return np.zeros(len(self.ids), dtype=bool)
        return np.all([~np.isnan(self.of(name)) for name in conditions], axis=0)

    def of(self, condition: str) -> FloatArray:
        """Return (N,) the scores under a condition."""
        return np.asarray(self.values[:, self.conditions.index(condition)])

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """(N,) number of each question's picture."""
        return np.asarray(np.unique(self.pictures.astype(str), return_inverse=True)[1], dtype=np.int64)

    def with_unchanged(self) -> "Scores":
        """Return the scores in which questions without evidence count as unchanged.

        Nothing can be taken away from them: under "removed" and "random" they are as on the original images.
        """
        if ORIGINAL not in self.conditions:
            return self
        values, unchanged = self.values.copy(), self.of(ORIGINAL)
        for column, name in enumerate(self.conditions):
            if kind_of(name) in (REMOVED, RANDOM):
                values[~self.has_evidence, column] = unchanged[~self.has_evidence]
        return replace(self, values=values)

    def texts(self, condition: str) -> NDArray[np.uint64]:
        """Return (N,) the answers under a condition, as numbers."""
        return np.asarray(self.answers[:, self.conditions.index(condition)])


def collect(answers: Iterable[Answer], conditions: Sequence[str] = ()) -> Scores:
    """Arrange answers.

    Args:
        conditions: to give a column even if no answer is under them.

    Raises:
        ValueError: two answers to a question under one condition.
    """
    numbers: dict[str, int] = {}
    columns = {name: number for number, name in enumerate(conditions)}
    shared: dict[str, str] = {}
    texts: list[tuple[str, ...]] = []
    rows, cells, values, digests, overlaps = array("q"), array("q"), array("d"), array("Q"), array("d")
    unparsed, evidence, references = array("b"), array("b"), array("Q")
    endings: dict[str, Counter[str]] = {}
    for answer in answers:
        if answer.id not in numbers:
            numbers[answer.id] = len(numbers)
            first = normalize_answer(answer.references[0]) if answer.references else ""
            kept = answer.category, answer.picture or answer.id, first
            # Equal texts are one object.
            texts.append(tuple(shared.setdefault(text, text) for text in kept))
            evidence.append(answer.has_evidence)
            references.append(text_digest("\0".join(answer.references)))
        rows.append(numbers[answer.id])
        cells.append(columns.setdefault(answer.condition, len(columns)))
        values.append(answer.score)
        unparsed.append(not answer.parsed)
        digests.append(text_digest(normalize_answer(answer.answer)))
        overlaps.append(answer.overlap)
        if ending := _ending(answer):
            endings.setdefault(answer.condition, Counter())[ending] += 1
    _refuse_repeated(np.array(rows), np.array(cells), list(numbers), list(columns))
    ids, names = sorted(numbers), sorted(columns)
    order = np.array([numbers[id] for id in ids], dtype=np.int64)
    taken = np.array([columns[name] for name in names], dtype=np.int64)
    shape = len(numbers), len(columns)

    def table(entries: Any, empty: Any) -> NDArray[Any]:
        cellwise = np.full(shape, empty)
        cellwise[np.array(rows), np.array(cells)] = entries
        return cellwise[np.ix_(order, taken)]

    def text(column: int) -> NDArray[np.object_]:
        return np.array([texts[number][column] for number in order], dtype=object)

    on_evidence = table(overlaps, 0.0)
    return Scores(
        ids=ids,
        conditions=tuple(names),
        values=table(values, np.nan),
        unparsed=table(unparsed, False),
        answers=table(digests, np.uint64(0)),
        overlap=on_evidence.max(axis=1) if columns else np.zeros(0),
        endings={name: dict(sorted(counts.items())) for name, counts in endings.items()},
        has_evidence=np.array(evidence, dtype=bool)[order],
        categories=text(0),
        pictures=text(1),
        first_references=text(2),
        references=np.array(references, dtype=np.uint64)[order],
    )


def _ending(answer: Answer) -> str:
    """Return how an answer ended, if not as it should: "length", "content_filter", "empty", ..."""
    if answer.finish_reason not in ("", "stop"):
        return answer.finish_reason
    return "" if answer.answer.strip() else "empty"


def _refuse_repeated(
    rows: NDArray[np.int64], cells: NDArray[np.int64], ids: Sequence[str], conditions: Sequence[str]
) -> None:
    places = np.sort(rows * len(conditions) + cells)
    repeated = places[1:][places[1:] == places[:-1]]
    if len(repeated):
        row, column = divmod(int(repeated[0]), len(conditions))
        raise ValueError(
            f"question {ids[row]!r} has two answers under {conditions[column]!r}: keep one of them, or the answers of "
            "one run"
        )
