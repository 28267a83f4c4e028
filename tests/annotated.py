"""Studies and annotations for the tests."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fivl_hf.annotation.items import Item, draw_items, matching_rows
from fivl_hf.annotation.records import QUESTIONS
from fivl_hf.annotation.study import Study


def study_of(folder: Path, rows: Any, names: Sequence[str] = ("anna", "ben"), **options: Any) -> Study:
    """A study of a few expressions of the rows."""
    return study_of_items(folder, rows, draw_items(rows, sample=6), names, **options)


def study_of_items(folder: Path, rows: Any, items: Sequence[Item], names: Sequence[str], **options: Any) -> Study:
    found, changed = matching_rows(rows, items)
    return Study(folder, items, found, changed, names, **options)


def answer(study: Study, name: str, key: str, answers: Iterable[str]) -> None:
    """Answer the three questions; "y", "n" and "u"."""
    for question, letter in zip(QUESTIONS, answers, strict=False):
        study.record(name, key, question, {"y": "yes", "n": "no", "u": "unsure"}[letter])
