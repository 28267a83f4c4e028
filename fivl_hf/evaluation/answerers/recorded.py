"""Answers that were given elsewhere: in files of fivl-hf, lmms-eval or VLMEvalKit."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from fivl_hf.evaluation.answerers.protocol import AnyRequest, Generated, Unanswered
from fivl_hf.evaluation.conditions import require_conditions
from fivl_hf.files.disk_table import DiskTable
from fivl_hf.files.fingerprints import files_digest
from fivl_hf.files.json_stream import json_lines, parse_json

__all__ = ["RecordedAnswerer", "read_recorded"]

_TABLES = {".csv": ",", ".tsv": "\t"}
_IDS = ("id", "question_id", "index")
_TEXTS = ("answer", "prediction", "text")


class RecordedAnswerer:
    """Answers questions from files: the answers under a condition, or lines that each name theirs.

    Args:
        files: each with the condition whose answers it holds, or None where its lines say so.

    Raises:
        ValueError: a file of another format, or one that answers a question twice under a condition.
    """

    splits_over_processes = False

    def __init__(self, files: Iterable[tuple[str | None, Path]]) -> None:
        self._files = list(files)
        self._answers = DiskTable()
        self.unanswered: list[Unanswered] = []
        require_conditions([condition for condition, _ in self._files if condition])
        for condition, path in self._files:
            for id, named, generated, question in read_recorded(path):
                under = condition or named or "original"
                key = _key(id, under)
                if key in self._answers:
                    raise ValueError(
                        f"{path}: there are two answers to {id!r} under {under!r}; name each file's condition, as in "
                        "removed=FILE"
                    )
                self._answers.put(key, [question, generated.text, generated.finish_reason, generated.latency])

    @property
    def identity(self) -> dict[str, Any]:
        recorded = [[condition, path.name, files_digest([path])] for condition, path in self._files]
        return {"recorded": sorted(recorded, key=str)}

    @property
    def details(self) -> dict[str, Any]:
        return {}

    def answers(self, requests: Iterable[AnyRequest]) -> Iterator[tuple[AnyRequest, Generated]]:
        """Yield the requests whose answers are recorded.

        Raises:
            ValueError: an answer to another question of that id.
        """
        for request in requests:
            recorded = self._answers.get(_key(request.id, request.condition))
            if recorded is None:
                self.unanswered.append(Unanswered(request.id, request.condition, "not in the file"))
                continue
            question, *generated = recorded
            asked = request.messages[-1]["content"]
            if question is not None and _first_line(question) != _first_line(asked):
                raise ValueError(
                    f"the recorded answer to {request.id!r} is to {question!r}, not to {asked!r}: is this the dataset, "
                    "and the split, that was answered?"
                )
            yield request, Generated(*generated)


def _first_line(question: str) -> str:
    """Return a question without what a benchmark adds to it."""
    return question.strip().partition("\n")[0].strip().lower()


def _key(id: str, condition: str) -> str:
    return f"{condition}\0{id}"


_Recorded = tuple[str, str | None, Generated, str | None]


def read_recorded(path: Path) -> Iterator[_Recorded]:
    """Yield id, condition, answer and question of each recorded answer; None where the file does not say.

    Formats: JSON Lines or JSON with ``id`` (or ``question_id``, ``index``), ``answer`` (or ``prediction``, ``text``)
    and, optionally, ``condition``, ``prompt`` (or ``question``), ``finish_reason`` and ``latency``; lmms-eval's
    ``*_samples_*.jsonl``; VLMEvalKit's tables (.xlsx, .tsv, .csv) with ``index`` and ``prediction``.

    Raises:
        ValueError: another format; the message names file and line.
    """
    for number, entry in enumerate(_readable(path), 1):
        try:
            if isinstance(entry, ValueError):  # a broken line
                raise entry
            yield _read(entry)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(
                f"{path}, entry {number}: expected an object with one of {', '.join(_IDS)} and one of "
                f"{', '.join(_TEXTS)}, or a line of lmms-eval's samples: {error}"
            ) from error


def _readable(path: Path) -> Iterator[Any]:
    """Yield the entries of a file; an error about its encoding or form names it."""
    try:
        yield from _entries(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}; save it as UTF-8") from error


def _entries(path: Path) -> Iterator[Any]:
    if path.suffix == ".jsonl":
        yield from (entry for _, entry in json_lines(path))
    elif path.suffix == ".json":
        try:
            content = parse_json(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from error
        if not isinstance(content, list):
            raise ValueError(f"{path}: expected a list of answers, got {type(content).__name__}")
        yield from content
    elif path.suffix in (".xlsx", *_TABLES):
        yield from _table(path)
    else:
        raise ValueError(f"{path}: recorded answers are .jsonl, .json, .csv, .tsv or .xlsx")


def _table(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix != ".xlsx":
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file, delimiter=_TABLES[path.suffix])
        return
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise ValueError(f"{path}: .xlsx needs openpyxl (pip install openpyxl), or save it as .tsv") from error
    try:
        rows = load_workbook(path, read_only=True).active.iter_rows(values_only=True)
    except (InvalidFileException, BadZipFile, KeyError) as error:
        raise ValueError(f"{path} cannot be read as .xlsx: {error}") from error
    names = [str(name) for name in next(rows, ())]
    for row in rows:
        yield {name: "" if value is None else str(value) for name, value in zip(names, row, strict=False)}


def _read(entry: Any) -> _Recorded:
    if not isinstance(entry, Mapping):
        raise TypeError(f"got {type(entry).__name__}")
    if "resps" in entry or "filtered_resps" in entry:
        return _read_sample(entry)
    id = _id_in([entry])
    text = next((entry[name] for name in _TEXTS if isinstance(entry.get(name), str)), None)
    if id is None or text is None:
        raise ValueError(f"got {', '.join(sorted(map(str, entry)))}")
    condition, latency = entry.get("condition"), entry.get("latency")
    if condition is not None:
        require_conditions([str(condition)])
    generated = Generated(text, str(entry.get("finish_reason") or ""), float(latency) if latency else None)
    question = next((entry[name] for name in ("prompt", "question") if isinstance(entry.get(name), str)), None)
    return str(id), None if condition is None else str(condition), generated, question


def _id_in(entries: Iterable[Mapping[str, Any]]) -> Any:
    return next((each[name] for each in entries for name in _IDS if each.get(name) is not None), None)


def _read_sample(entry: Mapping[str, Any]) -> _Recorded:
    """Read a line of lmms-eval's samples: its tasks keep a question's id in what they give to their metrics."""
    # lmms-eval leaves out `resps` where it equals `filtered_resps`.
    response = entry.get("resps") if entry.get("filtered_resps") in (None, []) else entry["filtered_resps"]
    while isinstance(response, list):
        response = response[0]
    kept = [each for each in entry.values() if isinstance(each, Mapping)]
    id = _id_in([entry, *kept])
    if id is None:
        raise ValueError("the task kept no question's id in its samples")
    condition = next((each["condition"] for each in kept if "condition" in each), None)
    return str(id), condition, Generated(str(response)), None
