"""Annotators' answers: files to which each is appended at once, and one annotation of each item.

A line is ``{"item", "digest", "field", "value", "at"}``. The field is one of the three questions, a comment, or a fix;
``undo`` takes the entry before it back. Nothing is ever removed from a file.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fivl_hf.files.appended import AppendedLines

__all__ = ["ANSWERS", "QUESTIONS", "Annotation", "AnnotationFile", "Entry", "new_entry", "read_annotations"]

QUESTIONS = {
    "mask": "Is the expression correctly represented in the mask?",
    "expression": "Is it a significant word of the answer, one that could not be had without the image?",
    "example": "Is the example good to be in the dataset?",
}
"""The questions of the paper's annotators, by field."""

ANSWERS = ("yes", "no", "unsure")
_LONGEST = {"comment": 5_000, "mask_png": 20_000_000, "text": 1_000}
_MOST_MISSED = 100


@dataclass(frozen=True)
class Entry:
    """An answer, a comment or a fix of an annotator.

    Attributes:
        item: key of the item (:attr:`fivl_hf.annotation.items.Item.key`).
        digest: what the item looked like.
        field: a question; "comment"; "drop" (the expression is to go); "boxes"; "mask_png" (base64); "text" (other
            words of the answer); "missed" (expressions of the turn that are missing from the dataset; an empty list
            if none is); "undo".
        at: when, in UTC.
    """

    item: str
    digest: str
    field: str
    value: Any
    at: str = ""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Entry":
        """Read an entry of a file that may be a stranger's; raises ValueError or KeyError for something else."""
        entry = cls(raw["item"], raw["digest"], raw["field"], raw["value"], raw.get("at", ""))
        if not all(isinstance(text, str) for text in (entry.item, entry.digest, entry.field, entry.at)):
            raise ValueError("item, digest, field and at are texts")
        if problem := _problem(entry.field, entry.value):
            raise ValueError(problem)
        return entry


def _problem(field: str, value: Any) -> str:
    """Return what is wrong with a value of a field; "" if nothing."""
    if field in QUESTIONS:
        return "" if value in ANSWERS else f"{field} is answered by {', '.join(ANSWERS)}, got {value!r:.80}"
    if field in _LONGEST:
        if not isinstance(value, str) or len(value) > _LONGEST[field]:
            return f"{field} is a text of at most {_LONGEST[field]:,} characters"
        return "" if field != "mask_png" or not value or _is_base64(value) else "mask_png is not base64"
    if field == "drop":
        return "" if isinstance(value, bool) else f"drop is true or false, got {value!r:.80}"
    if field == "boxes":
        return "" if value is None or _are_boxes(value) else "boxes are lists of four finite numbers"
    if field == "missed":
        texts = value is None or (
            isinstance(value, list) and len(value) <= _MOST_MISSED and all(isinstance(each, str) for each in value)
        )
        return "" if texts else f"missed is a list of at most {_MOST_MISSED} texts"
    return "" if field == "undo" else f"there is no field {field!r:.80}"


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error:
        return False
    return True


def _are_boxes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(side, int | float) and not isinstance(side, bool) and abs(side) < 1e6 for side in box)
        for box in value
    )


@dataclass(frozen=True)
class Annotation:
    """All that one annotator recorded about one item.

    Attributes:
        answers: to the questions answered so far.
        boxes, mask_png, text: what they are to be instead; None as they are.
        missed: expressions of the same turn that the dataset should have; None if the annotator did not look for any.
    """

    digest: str
    answers: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""
    drop: bool = False
    boxes: list[list[float]] | None = None
    mask_png: str | None = None
    text: str | None = None
    missed: tuple[str, ...] | None = None

    @property
    def complete(self) -> bool:
        """Return whether all questions are answered."""
        return all(question in self.answers for question in QUESTIONS)

    @property
    def mask_bytes(self) -> bytes | None:
        """Return the repainted mask's PNG."""
        return base64.b64decode(self.mask_png) if self.mask_png else None


class AnnotationFile:
    """The annotations of one annotator.

    Attributes:
        annotations: of every item, by its key, in the order in which they were begun.

    Raises:
        ValueError: a line that is something else, with its number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = AppendedLines(path, "an entry of fivl annotate", read=Entry.from_dict, write=asdict)
        self._standing: list[Entry] = []
        self._of_items: dict[str, list[Entry]] = {}
        self.annotations: dict[str, Annotation] = {}
        for entry in self._lines:
            self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        if entry.field != "undo":
            self._standing.append(entry)
            self._of_items.setdefault(entry.item, []).append(entry)
        elif self._standing:
            entry = self._standing.pop()
            self._of_items[entry.item].pop()
        self._put_together(entry.item)

    @property
    def last(self) -> Entry | None:
        """Return the last entry that was not taken back."""
        return self._standing[-1] if self._standing else None

    def _put_together(self, item: str) -> None:
        if entries := self._of_items.get(item):
            self.annotations[item] = _annotation(entries)
        else:
            self.annotations.pop(item, None)

    def add(self, item: str, digest: str, field: str, value: Any) -> None:
        """Write an entry.

        Raises:
            ValueError: a value that the field cannot have.
            OSError: it could not be written; the annotations are as before.
        """
        entry = new_entry(item, digest, field, value)
        # Kept only once it is on disk.
        self._lines.append([entry])
        self._keep(entry)

    def undo(self) -> Entry | None:
        """Take the last entry back and return it; None if there is none. Raises OSError as :meth:`add`."""
        last = self.last
        if last is None:
            return None
        self.add(last.item, last.digest, "undo", None)
        return last


def _annotation(entries: Iterable[Entry]) -> Annotation:
    """Put the entries of one item together; of a field that was given twice, the last counts.

    An item that looked different when it was annotated before is annotated again from the start.
    """
    digest = ""
    answers: dict[str, str] = {}
    others: dict[str, Any] = {}
    for entry in entries:
        if entry.digest != digest:
            digest, answers, others = entry.digest, {}, {}
        (answers if entry.field in QUESTIONS else others)[entry.field] = entry.value
    # A fix that was taken back is an empty one.
    taken_back = {"mask_png": others.get("mask_png") or None, "text": others.get("text") or None}
    missed = others.get("missed")
    return Annotation(digest, answers, **{**others, **taken_back, "missed": None if missed is None else tuple(missed)})


def new_entry(item: str, digest: str, field: str, value: Any) -> Entry:
    """Return an entry of now; raises ValueError for a value that the field cannot have."""
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Entry.from_dict({"item": item, "digest": digest, "field": field, "value": value, "at": at})


def read_annotations(paths: Iterable[Path]) -> dict[str, dict[str, Annotation]]:
    """Read files of annotations, or folders of studies: item key -> annotator -> annotation.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a line that is something else, or two files of one annotator.
    """
    files = list(_files(paths))
    names = [path.stem for path in files]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two annotation files have the name {doubled}: name each after its annotator")
    of_items: dict[str, dict[str, Annotation]] = {}
    for name, path in zip(names, files, strict=True):
        for key, annotation in AnnotationFile(path).annotations.items():
            of_items.setdefault(key, {})[name] = annotation
    return of_items


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        found = sorted((path / "annotators").glob("*.jsonl")) if path.is_dir() else [path] if path.is_file() else []
        if not found:
            raise FileNotFoundError(f"{path} holds no annotations: name a study's folder, or a file of its annotators/")
        yield from found
