"""The table of answers: one line per question and condition, on disk as soon as it is known.

Everything else (scores, intervals, reports) is computed from it, without a model.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["ORIGINAL", "RANDOM", "REMOVED", "Answer", "AnswerTable", "by_question", "read_answers"]

ORIGINAL, REMOVED, RANDOM = "original", "removed", "random"


@dataclass(frozen=True)
class Answer:
    """A model's answer to a question under a condition.

    Attributes:
        id: of the question.
        condition: ``"original"``, ``"removed"`` (evidence blacked out) or ``"random"`` (boxes of the same sizes).
        references: any of which is right.
        score: 0 to 1.
        boxes: per image, the boxes that were blacked out, in source pixels.
        overlap: share of the random boxes' area that lies on the evidence; 0 under the other conditions.
    """

    id: str
    condition: str
    question: str
    references: tuple[str, ...]
    answer: str
    score: float
    category: str = ""
    has_evidence: bool = True
    boxes: tuple[tuple[tuple[float, ...], ...], ...] = ()
    overlap: float = 0.0


class AnswerTable:
    """Answers by question and condition, in memory or in a JSON Lines file to which each is appended as it comes.

    Args:
        path: of the file; a line at its end that was cut off by a kill is dropped.

    Raises:
        ValueError: the file holds something else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._answers: dict[tuple[str, str], Answer] = {}
        if path and path.exists():
            self._answers = {(answer.id, answer.condition): answer for answer in read_answers(path)}
            _drop_torn_line(path)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._answers

    def __iter__(self) -> Iterator[Answer]:
        return iter(self._answers.values())

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, answers: Iterable[Answer]) -> None:
        """Add answers.

        Raises:
            OSError: the file cannot be written; what was added before is kept.
        """
        new = list(answers)
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in new)
        self._answers.update({(answer.id, answer.condition): answer for answer in new})


def read_answers(path: Path) -> Iterator[Answer]:
    """Read the answers of a file, but for a last line that was cut off.

    Raises:
        ValueError: a line that is not an answer, with its number.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield _answer(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{path}, line {number}, is not an answer of fivl evaluate: {error}") from error


def by_question(answers: Iterable[Answer]) -> dict[str, dict[str, Answer]]:
    """Group answers: of each question's id, the answer under each condition."""
    grouped: dict[str, dict[str, Answer]] = {}
    for answer in answers:
        grouped.setdefault(answer.id, {})[answer.condition] = answer
    return grouped


def _answer(raw: dict[str, Any]) -> Answer:
    boxes = tuple(tuple(tuple(map(float, box)) for box in image) for image in raw["boxes"])
    return Answer(**{**raw, "references": tuple(raw["references"]), "boxes": boxes})


def _drop_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        content_end = file.seek(0, 2)
        while content_end:
            # Lines are short beside this.
            start = max(0, content_end - (1 << 20))
            file.seek(start)
            block = file.read(content_end - start)
            if (newline := block.rfind(b"\n")) >= 0:
                file.truncate(start + newline + 1)
                return
            content_end = start
        file.truncate(0)
