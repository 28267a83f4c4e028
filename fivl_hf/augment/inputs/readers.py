"""Readers: what people have (LLaVA files, datasets, benchmark questions) as conversations, one at a time.

Every reader yields exactly one record per sample of its input: a conversation, or why the sample is none.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from fivl_hf.augment.inputs.conversations import Conversation, ImageFile, ImageSource, Record, StoredImage, image_file
from fivl_hf.augment.inputs.question_files import gqa_questions, pope_questions, vqa_questions
from fivl_hf.augment.inputs.settings import FORMATS, InputSettings
from fivl_hf.chat import message_text
from fivl_hf.files.disk_table import DiskTable
from fivl_hf.files.json_stream import json_items, json_lines, leading_events, marked_encoding
from fivl_hf.images import ImageError, encoded_bytes
from fivl_hf.jobs.outcomes import Drop, Failure
from fivl_hf.models import existing_folder

__all__ = [
    "NO_IMAGE",
    "UniqueIds",
    "count_records",
    "dataset_record",
    "input_format",
    "llava_record",
    "llava_records",
    "read_conversations",
    "row_image",
    "sampled",
]

_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
_PLACEHOLDER = "<image>"


def read_conversations(settings: InputSettings) -> Iterator[Record]:
    """Return every sample of the input, ids made unique, in the input's order.

    Raises:
        ValueError: a file that is not of its format, or cannot be parsed.
        OSError: a file that cannot be read.
    """
    format = settings.format or input_format(settings.input)
    if format != "dataset" and settings.input != "scenes" and not Path(settings.input).is_file():
        raise FileNotFoundError(f"there is no file {settings.input}")
    for folder in settings.images:
        if not folder.is_dir():
            raise FileNotFoundError(f"--images: there is no folder {folder}")
    readers: dict[str, Callable[[InputSettings], Iterator[Record]]] = {
        "llava": lambda s: llava_records(Path(s.input), s.images),
        "dataset": _dataset,
        "pope": lambda s: pope_questions(Path(s.input), s.images),
        "vqa": lambda s: vqa_questions(Path(s.input), s.answers, s.images),
        "gqa": lambda s: gqa_questions(Path(s.input), s.images),
        "scenes": _scenes,
    }
    if format not in readers:
        raise ValueError(f"format must be one of {FORMATS}, got {format!r}")
    if format == "scenes":
        return readers[format](settings)
    read = readers[format]
    return sampled(
        lambda: _unique(read(settings)) if settings.rename else read(settings), settings.limit, settings.seed
    )


def count_records(settings: InputSettings) -> int | None:
    """Return how many samples there will be, for a progress bar; None if only reading a whole dataset could tell."""
    format = settings.format or input_format(settings.input)
    if format in ("dataset", "scenes"):
        return settings.limit
    return sum(1 for _ in read_conversations(settings))


def sampled(records: Callable[[], Iterator[Record]], limit: int | None, seed: int | None) -> Iterator[Record]:
    """Return the first ``limit`` records; if there is a seed, ``limit`` of them at random, in order (reads twice)."""
    if limit is None or seed is None:
        return islice(records(), limit)
    total = sum(1 for _ in records())
    chosen = set(random.Random(seed).sample(range(total), min(limit, total)))
    return (record for i, record in enumerate(records()) if i in chosen)


def input_format(input: str) -> str:
    """Tell which of ``FORMATS`` an input is, from its name and the first things in it.

    Raises:
        FileNotFoundError: a file that does not exist.
        ValueError: JSON that is neither a list nor objects.
    """
    path = Path(input)
    if input == "scenes" and not path.exists():
        return "scenes"
    if path.suffix in (".json", ".jsonl", ".parquet", ".csv", ".arrow") and not path.exists():
        raise FileNotFoundError(f"there is no file {input}")
    if not path.is_file() or path.suffix in (".parquet", ".arrow", ".csv"):
        return "dataset"
    events = leading_events(path, 40)
    keys = [value for _, event, value in events if event == "map_key"]
    if not events or events[0][1] not in ("start_array", "start_map"):
        raise ValueError(f"{path} holds neither a list nor objects; choose --format from {FORMATS}")
    if {"question_id", "text", "label"} <= set(keys):
        return "pope"
    if events[0][1] == "start_map" and {"questions", "data_subtype", "task_type"} & set(keys):
        return "vqa"
    if {"imageId", "question"} <= set(keys):
        return "gqa"
    return "llava"


# Why a conversation without an image is dropped.
NO_IMAGE = "no image"
AnyRecord = TypeVar("AnyRecord", bound=Record)


class UniqueIds:
    """Gives records ids of their own: the second "x" is "x-2". Which ids were seen is kept on disk."""

    def __init__(self) -> None:
        self._seen = DiskTable()

    def reserve(self, id: str) -> None:
        """Keep an id for a record that is known to come, or has come already."""
        if id not in self._seen:
            self._seen.put(id)

    def renamed(self, record: AnyRecord) -> AnyRecord:
        """Return the record, under another id if its own was there before."""
        name, number = record.id, 1
        while name in self._seen:
            number = (self._seen.get(record.id) or number) + 1
            self._seen.put(record.id, number)
            name = f"{record.id}-{number}"
        self._seen.put(name)
        return record if name == record.id else replace(record, id=name)


def _unique(records: Iterable[Record]) -> Iterator[Record]:
    ids = UniqueIds()
    return (ids.renamed(record) for record in records)


def llava_records(path: Path, images: Sequence[Path], *, text_only: bool = False) -> Iterator[Record]:
    """Return every entry of a LLaVA file, JSON or JSON Lines, under the id that it gives.

    Args:
        text_only: keep conversations without an image, which are dropped otherwise.
    """
    first = leading_events(path, 1)[0][1]
    entries: Iterable[tuple[str, Any]]
    if first == "start_array":
        entries = ((f"item {i}", item) for i, item in enumerate(json_items(path, "item")))
    else:
        entries = ((f"line {i}", item) for i, item in json_lines(path))
    return (llava_record(item, place, images, path.stem, text_only) for place, item in entries)


def llava_record(item: Any, place: str, roots: Sequence[Path], source: str, text_only: bool = False) -> Record:
    """Return one entry of a LLaVA file: ``{"id", "image", "conversations": [{"from", "value"}, ...]}``."""
    if isinstance(item, ValueError):
        return Failure(place, "the entry is not valid JSON", str(item))
    if not isinstance(item, Mapping):
        return Failure(place, "the entry is not a conversation", f"{type(item).__name__} in place of an object")
    id = _id(item, place)
    names = item.get("image") or item.get("images")
    if not names and not text_only:
        return Drop(id, NO_IMAGE)
    names = names if isinstance(names, list) else [names] if names else []
    try:
        images = tuple(image_file(name, roots or (Path(),)) for name in names)
    except ImageError as error:
        return Failure(id, "the image path is not allowed", str(error))
    messages = item.get("conversations", item.get("messages"))
    folder = Path(images[0].name).parts[:-1] if images else ()
    return _conversation(id, images, messages, "/".join((source, *folder[:1])))


def _id(item: Mapping[str, Any], otherwise: str) -> str:
    """Return the sample's own id, also if it is the number 0."""
    found = item.get("id")
    return otherwise if found is None or found == "" else str(found)


def _conversation(id: str, images: tuple[Any, ...], raw: Any, source: str) -> Record:
    """Return a conversation from messages in LLaVA's or in chat format."""
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
        return Drop(id, "the conversation is empty")
    messages = []
    for message in raw:
        try:
            role = _ROLES[message.get("from", message.get("role"))]
            text = message["value"] if "value" in message else message_text(message)
            messages.append({"role": role, "content": text.replace(_PLACEHOLDER, "").strip()})
        except (KeyError, TypeError, AttributeError):
            return Failure(id, "a message without a known role and a text", repr(message)[:200])
    return Conversation(id, images, tuple(messages), source)


def _dataset(settings: InputSettings) -> Iterator[Record]:
    """Yield rows with ``images`` or ``image``, and ``messages``, ``conversations``, or ``question`` and ``answer``."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    from fivl_hf.storage import with_encoded_images

    path = Path(settings.input)
    existing_folder(settings.input, "dataset")
    try:
        if path.is_file():
            kind = {".csv": "csv", ".arrow": "arrow"}.get(path.suffix, "parquet")
            encoding = {"encoding": marked_encoding(path)} if kind == "csv" else {}
            rows = load_dataset(kind, data_files=str(path), split="train", streaming=True, **encoding)
        else:
            rows = load_dataset(settings.input, settings.config, split=settings.split, streaming=True)
    except UnicodeDecodeError as error:
        raise ValueError(f"{settings.input} is not UTF-8 ({error}); save it as UTF-8") from error
    except DatasetsError as error:
        raise ValueError(f"{settings.input} cannot be read as a dataset: {error}") from error
    source = path.stem if path.exists() else settings.input
    try:
        for number, row in enumerate(with_encoded_images(rows)):
            yield dataset_record(row, number, source, (*settings.images, *([path] if path.is_dir() else [])))
    except UnicodeDecodeError as error:
        raise ValueError(f"{settings.input} is not UTF-8 ({error}); save it as UTF-8") from error


def dataset_record(row: Mapping[str, Any], number: int, source: str, roots: Sequence[Path] = ()) -> Record:
    """Return one row of a dataset; an image that is only named must be in one of the folders ``roots``."""
    id = _id(row, f"{source}-{number}")
    images = row.get("images") or row.get("image")
    images = images if isinstance(images, list | tuple) else [images]
    try:
        stored = tuple(row_image(image, roots) for image in images if image is not None)
    except ImageError as error:
        return Failure(id, "the image cannot be used", str(error))
    if not stored:
        return Drop(id, "no image")
    messages = row.get("messages") or row.get("conversations")
    if messages is None and row.get("question") and (row.get("answers") or row.get("answer")):
        return _question(id, stored, row, source)
    return _conversation(id, stored, messages, str(row.get("source") or source))


def row_image(image: Any, roots: Sequence[Path]) -> ImageSource:
    """Return an image of a dataset's row: its bytes, or a file that is named and is in one of the folders.

    Raises:
        ImageError: it is neither.
    """
    named = image.get("path") if isinstance(image, Mapping) else image
    if isinstance(image, Mapping) and image.get("bytes") is None and isinstance(named, str):
        image = named
    if not isinstance(image, str):
        return StoredImage(encoded_bytes(image), Path(named if isinstance(named, str) else "").name)
    if not Path(image).is_absolute():
        return image_file(image, roots)
    if any(Path(image).resolve().is_relative_to(root.resolve()) for root in roots):
        return ImageFile(image, (Path(image),))
    raise ImageError(f"the image path {image!r} is not in the dataset's or an image folder")


def _question(id: str, images: tuple[Any, ...], row: Mapping[str, Any], source: str) -> Record:
    answers = row.get("answers") or row["answer"]
    answers = tuple(answers) if isinstance(answers, list | tuple) else (answers,)
    if not all(isinstance(answer, str) for answer in answers) or not isinstance(row["question"], str):
        return Failure(id, "question and answers are not text", repr(answers)[:200])
    messages = ({"role": "user", "content": row["question"]}, {"role": "assistant", "content": answers[0]})
    return Conversation(id, images, messages, str(row.get("source") or source), answers, str(row.get("category") or ""))


def _scenes(settings: InputSettings) -> Iterator[Record]:
    from fivl_hf.augment.scenes import scene_conversations
    from fivl_hf.scenes.catalog import ALIGNED

    if settings.limit is None:
        raise ValueError("--input scenes needs --limit: how many to render")
    return scene_conversations(settings.split, settings.limit, settings.seed or 0, style=settings.config or ALIGNED)
