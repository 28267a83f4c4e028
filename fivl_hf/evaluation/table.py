"""The table of answers: one line per question and condition, on disk as soon as it is known.

Everything else (scores, intervals, reports) is computed from it, without a model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fivl_hf.evaluation.conditions import CONDITIONS
from fivl_hf.files.appended import AppendedLines
from fivl_hf.files.fingerprints import text_digest
from fivl_hf.files.results import read_settings

__all__ = [
    "ORIGINAL",
    "RANDOM",
    "REMOVED",
    "Answer",
    "AnswerTable",
    "answers_file",
    "by_question",
    "measured_with",
    "read_answers",
]

_REFUSALS = ("refusal", "content_filter")
ORIGINAL, REMOVED, RANDOM = "original", "removed", "random"


@dataclass(frozen=True)
class Answer:
    """A model's answer to a question under a condition.

    Attributes:
        id: of the question.
        condition: see :mod:`fivl_hf.evaluation.conditions`.
        prompt: the question as it was asked.
        references: any of which is right.
        score: 0 to 1.
        boxes: per image, the boxes that the condition hides (or keeps), in source pixels.
        overlap: share of the random boxes' area that lies on the evidence; 0 under the other conditions.
        parsed: whether the scorer could read the answer; one that it cannot read has a score of 0.
        picture: digest of the question's images; questions of one picture are resampled together.
        seed: of the random boxes.
        answerer: the model that answered.
        versions: of the packages that it ran on.
        finish_reason, latency: see :class:`fivl_hf.evaluation.answerers.protocol.Generated`.
    """

    id: str
    condition: str
    prompt: str
    references: tuple[str, ...]
    answer: str
    score: float
    category: str = ""
    has_evidence: bool = True
    boxes: tuple[tuple[tuple[float, ...], ...], ...] = ()
    overlap: float = 0.0
    parsed: bool = True
    picture: str = ""
    seed: int = 0
    answerer: str = ""
    versions: str = ""
    finish_reason: str = ""
    latency: float | None = None

    @property
    def refused(self) -> bool:
        """Whether the model, or a filter before it, refused to answer, as its API says."""
        return self.finish_reason in _REFUSALS


class AnswerTable:
    """Answers by question and condition, in memory or in a JSON Lines file to which each is appended as it comes.

    Of a file, only which answers it holds is kept in memory, not the answers.

    Args:
        path: of the file; a line at its end that was cut off by a kill is dropped.

    Raises:
        ValueError: the file holds something else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = _file(path) if path else None
        self._listed: list[Answer] = []
        self._known = {_digest(answer.id, answer.condition) for answer in self._file or ()}

    def __contains__(self, key: tuple[str, str]) -> bool:
        return _digest(*key) in self._known

    def __iter__(self) -> Iterator[Answer]:
        return iter(self._listed if self._file is None else self._file)

    def __len__(self) -> int:
        return len(self._known)

    def add(self, answers: Iterable[Answer]) -> None:
        """Add answers; those that are known are left out.

        Raises:
            OSError: the file cannot be written; what was added before is kept.
        """
        new = [answer for answer in answers if (answer.id, answer.condition) not in self]
        if self._file is None:
            self._listed += new
        elif new:
            self._file.append(new)
        self._known.update(_digest(answer.id, answer.condition) for answer in new)


def _digest(id: str, condition: str) -> int:
    """Return a key in a tenth of its memory."""
    return text_digest(f"{condition}\0{id}")


def answers_file(folder: Path) -> Path:
    """Return the file with the answers of an evaluation's folder, ``answers.jsonl`` or ``answers.parquet``.

    Raises:
        FileNotFoundError: the folder holds no answers.
    """
    path = folder / "answers.jsonl"
    if not path.is_file():
        if (parquet := path.with_suffix(".parquet")).is_file():
            return parquet
        started = (folder / "evaluation.run.json").exists()
        why = "no question was answered yet; run it again" if started else "it is not the output of fivl evaluate"
        raise FileNotFoundError(f"{folder} holds no answers.jsonl: {why}")
    return path


def measured_with(folder: Path) -> dict[str, Any]:
    """Return what an evaluation's folder was measured with: its results, or the settings of a run that has none yet.

    Raises:
        ValueError: the file is damaged.
    """
    cure = f"but the answers are not: delete it, and run fivl score {folder}"
    files = (folder / name for name in ("reliance.json", "evaluation.run.json"))
    return next((read_settings(file, cure) for file in files if file.exists()), {})


def read_answers(path: Path, *, finished: bool = False) -> Iterator[Answer]:
    """Read the answers of a JSON Lines file, except for a last line that was cut off, or of a Parquet file.

    Args:
        finished: nothing was cut off; an incomplete last line is an error.

    Raises:
        ValueError: a line or row that is not an answer, with its number.
    """
    return _parquet_answers(path) if path.suffix == ".parquet" else iter(_file(path, finished=finished))


def _parquet_answers(path: Path) -> Iterator[Answer]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(1_000):
            for raw in batch.to_pylist():
                number += 1
                yield _answer(raw)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}, row {number}, is not an answer of fivl evaluate: {error}") from error


def by_question(answers: Iterable[Answer]) -> dict[str, dict[str, Answer]]:
    """Group answers: of each question's id, the answer under each condition."""
    grouped: dict[str, dict[str, Answer]] = {}
    for answer in answers:
        grouped.setdefault(answer.id, {})[answer.condition] = answer
    return grouped


def _answer(raw: Any) -> Answer:
    """Make an answer of a JSON value; raises ValueError, TypeError or KeyError for something else."""
    for name in ("id", "condition", "prompt", "answer"):
        if not isinstance(raw[name], str):
            raise ValueError(f"{name} must be a text, got {raw[name]!r}")
    if raw["condition"] not in CONDITIONS:
        raise ValueError(f"there is no condition {raw['condition']!r}")
    references = raw["references"]
    if not isinstance(references, list | tuple) or not all(isinstance(each, str) for each in references):
        raise ValueError(f"references must be a list of texts, got {references!r}")
    boxes = tuple(tuple(tuple(map(float, box)) for box in image) for image in raw["boxes"])
    return Answer(**{**raw, "references": tuple(raw["references"]), "boxes": boxes})


def _file(path: Path, *, finished: bool = False) -> AppendedLines[Answer]:
    return AppendedLines(path, "an answer of fivl evaluate", read=_answer, write=asdict, finished=finished)
