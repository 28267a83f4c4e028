"""Annotations for other tools and from them: CSV, and the files of an Argilla dataset."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fivl_hf.annotation.items import Item
from fivl_hf.annotation.ratings import Ratings
from fivl_hf.annotation.records import ANSWERS, QUESTIONS, new_entry
from fivl_hf.annotation.study import require_annotator_name
from fivl_hf.files.atomic import write_atomically, write_json
from fivl_hf.files.json_stream import parse_json
from fivl_hf.images import data_url, image_bytes, open_rgb
from fivl_hf.masks import decode_mask
from fivl_hf.schema import FiVLRow, validate_row
from fivl_hf.show.drawing import outline_masks

__all__ = ["export_argilla", "export_csv", "import_argilla", "import_csv"]

_FIXES = ("drop", "new_words", "new_boxes", "new_mask", "missed")
_COLUMNS = ("item", "digest", "annotator", *QUESTIONS, "comment", *_FIXES, "turn", "text", "source", "coverage")
# Beginnings of a cell that a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SIDE = 768
_LONGEST_CELL = 30_000_000
# In the cell of missed expressions: the annotator looked, and none is missing.
_NONE_MISSED = "(none)"


def export_csv(path: Path, ratings: Ratings) -> int:
    """Write a line for each expression and annotator; returns how many.

    Texts that a spreadsheet would run as a formula have an apostrophe before them, which :func:`import_csv` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for each in ratings.rated:
            item = each.item
            for name, said in sorted(each.annotations.items()):
                answers = [said.answers.get(question, "") for question in QUESTIONS]
                fixes = [
                    "yes" if said.drop else "",
                    said.text or "",
                    "" if said.boxes is None else json.dumps(said.boxes),
                    said.mask_png or "",
                    _NONE_MISSED if said.missed == () else "\n".join(said.missed or ()),
                ]
                about = [item.turn, item.text, item.source, item.coverage]
                line = [item.key, item.digest, name, *answers, said.comment, *fixes, *about]
                writer.writerow([_harmless(cell) for cell in line])
                lines += 1
    return lines


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith((*_FORMULA, "'")) else cell


def import_csv(path: Path, folder: Path) -> dict[str, int]:
    """Write the annotations of a CSV file as files of ``fivl annotate`` into a new folder.

    Returns:
        how many items each annotator has.

    Raises:
        ValueError: a column or value that is missing or wrong, with its row; nothing is written.
        FileExistsError: the folder has annotations.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            # A painted mask is longer than the longest cell that csv reads by default.
            csv.field_size_limit(_LONGEST_CELL)
            header = file.readline()
            file.seek(0)
            # Spreadsheets of some countries separate cells otherwise.
            reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count))
            needed = ("item", "digest", "annotator", *QUESTIONS)
            if missing := [name for name in needed if name not in (reader.fieldnames or ())]:
                raise ValueError(f"{path}: the column {missing[0]!r} is missing; needed are {', '.join(needed)}")
            lines = [(number, _cells(line)) for number, line in enumerate(reader, 2)]
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from error
    except UnicodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({error}): save it as CSV UTF-8") from error
    return _write(
        folder, [_csv_record(f"{path}, row {number}", cells) for number, cells in lines if any(cells.values())]
    )


def _cells(line: Mapping[str | None, str | None]) -> dict[str, str]:
    """Return a line's texts by column; cells beyond the last column have no name."""
    return {name: (text or "").removeprefix("'") for name, text in line.items() if name}


def _csv_record(where: str, cells: Mapping[str, str]) -> "_Record":
    fields: dict[str, Any] = {question: cells[question].strip().lower() for question in QUESTIONS}
    fields["comment"], fields["missed"] = cells.get("comment", ""), cells.get("missed", "").splitlines() or None
    if fields["missed"] == [_NONE_MISSED]:
        fields["missed"] = []
    fields["drop"] = cells.get("drop", "").strip().lower() in ("yes", "true", "1")
    fields["text"], fields["mask_png"] = cells.get("new_words", ""), cells.get("new_mask", "")
    if boxes := cells.get("new_boxes", ""):
        try:
            fields["boxes"] = parse_json(boxes)
        except ValueError as error:
            raise ValueError(f"{where}: new_boxes is not a JSON list: {error}") from error
    return _Record(where, cells["annotator"], cells["item"], cells["digest"], fields)


@dataclass(frozen=True)
class _Record:
    """The entries of one annotator about one item, read from a file.

    Attributes:
        where: file and row, for messages.
        fields: values by field; empty ones are left out.
    """

    where: str
    annotator: str
    item: str
    digest: str
    fields: Mapping[str, Any]


def _write(folder: Path, records: Sequence[_Record]) -> dict[str, int]:
    """Write records as annotators' files; returns how many items each annotator has."""
    target = folder / "annotators"
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} has annotations: name a new folder")
    entries: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        try:
            require_annotator_name(record.annotator)
            for field, value in record.fields.items():
                if value or value == []:
                    entry = new_entry(record.item, record.digest, field, value)
                    entries.setdefault(record.annotator, []).append(asdict(entry))
        except ValueError as error:
            raise ValueError(f"{record.where}: {error}") from error
    if not entries:
        raise ValueError("the file has no annotations")
    target.mkdir(parents=True, exist_ok=True)
    for name, listed in entries.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in listed)
        write_atomically(target / f"{name}.jsonl", text)
    return {name: len({line["item"] for line in listed}) for name, listed in entries.items()}


def export_argilla(folder: Path, rows: Any, items: Iterable[tuple[Item, int]]) -> int:
    """Write a folder that ``argilla.Dataset.from_disk`` loads: pictures, conversations, the three questions.

    Args:
        items: what is to be annotated, each with its row's number.

    Returns:
        how many records there are.

    Raises:
        FileExistsError: the folder exists and is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name a new folder")
    records = [_argilla_record(validate_row(rows[number]), item) for item, number in items]
    (folder / ".argilla").mkdir(parents=True, exist_ok=True)
    write_json(folder / "records.json", records)
    write_json(folder / ".argilla" / "settings.json", _settings())
    write_json(folder / ".argilla" / "dataset.json", {"name": folder.name, "allow_extra_metadata": True})
    return len(records)


def _argilla_record(row: FiVLRow, item: Item) -> dict[str, Any]:
    expression, turn = row.key_expressions[item.place], row.turns[item.turn]
    image = open_rgb(row.images[expression.image])
    side = min(_SIDE, max(288, *image.size))
    picture = outline_masks(image, [decode_mask(row.masks[item.place])], [expression.boxes], side=side)
    return {
        "id": item.key,
        "fields": {
            "image": data_url(image_bytes(picture, "JPEG", quality=88), "jpeg"),
            "question": turn.question or " ",
            "answer": turn.answer or " ",
            "expression": item.text,
        },
        "metadata": {"digest": item.digest, "source": item.source, "coverage": item.coverage},
        "suggestions": {},
        "responses": {},
        "vectors": {},
    }


def _settings() -> dict[str, Any]:
    """Return the questions and fields as Argilla's settings file has them."""
    fields = [{"name": "image", "title": "Image", "required": True, "settings": {"type": "image"}}]
    for name in ("question", "answer", "expression"):
        text = {"type": "text", "use_markdown": False}
        fields.append({"name": name, "title": name.capitalize(), "required": True, "settings": text})
    options = [{"value": answer, "text": answer, "description": None} for answer in ANSWERS]
    choice = {"type": "label_selection", "options": options, "visible_options": len(ANSWERS)}
    questions = [
        {"name": name, "title": text, "description": None, "required": True, "settings": choice}
        for name, text in QUESTIONS.items()
    ]
    return {
        "guidelines": "Each record is a key expression; the outlined part of the image is its mask.",
        "questions": questions,
        "fields": fields,
        "vectors": [],
        "metadata": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def import_argilla(path: Path, folder: Path, names: Mapping[str, str] | None = None) -> dict[str, int]:
    """Write the answers of an Argilla export as files of ``fivl annotate`` into a new folder.

    Args:
        path: the folder of ``Dataset.to_disk``, or its ``records.json``.
        names: annotators by their user id in Argilla; without, the id is the name.

    Returns:
        how many items each annotator has.

    Raises:
        ValueError: another file, or values that are wrong; nothing is written.
        FileExistsError: the folder has annotations.
    """
    path = path / "records.json" if path.is_dir() else path
    parsed = parse_json(path.read_bytes())
    records: list[_Record] = []
    try:
        for number, raw in enumerate(parsed):
            by_user: dict[str, dict[str, str]] = {}
            for question, responses in (raw.get("responses") or {}).items():
                for response in responses if question in QUESTIONS else ():
                    if response.get("status") in (None, "submitted"):
                        by_user.setdefault(str(response["user_id"]), {})[question] = response["value"]
            where, item, digest = f"{path}, record {number}", raw["id"], raw["metadata"]["digest"]
            records += [
                _Record(where, (names or {}).get(user, user), item, digest, said) for user, said in by_user.items()
            ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a file of records that Argilla wrote: {error!r}") from error
    return _write(folder, records)
