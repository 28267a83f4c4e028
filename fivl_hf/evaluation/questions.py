"""Questions to a model, with their images, reference answers and evidence."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from fivl_hf.images import ImageError, open_rgb
from fivl_hf.masks import BoolArray, decode_mask, union
from fivl_hf.schema import FiVLRow, validate_row

__all__ = ["Question", "questions"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Question:
    """One question to answer.

    Attributes:
        id: the row's id, with the turn where a row gives several questions.
        load: gives the raw row; read from the dataset again where that can be indexed, so that a large benchmark's
            images are not all held in memory.
        messages: the conversation up to and including the question, in chat format.
        answers: reference answers, any of which is right.
        sizes: (width, height) of each image.
        evidence: per image, the boxes of the key expressions in source pixels.
        masks: per image, which of the row's masks show them.
        category: free text to group results by.
        source: where the row comes from; benchmarks have their scorers by it.
        picture: digest of the images, the same for all questions about them.
    """

    id: str
    load: Callable[[], Mapping[str, Any]]
    messages: tuple[dict[str, str], ...]
    answers: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    evidence: tuple[tuple[Box, ...], ...]
    masks: tuple[tuple[int, ...], ...] = ()
    category: str = ""
    source: str = ""
    picture: str = ""

    @property
    def has_evidence(self) -> bool:
        return any(self.evidence)

    def images(self) -> list[Image.Image]:
        """Open the images; raises ImageError, naming the question, for one that cannot be shown."""
        try:
            return [open_rgb(image) for image in self.load()["images"]]
        except ImageError as error:
            raise ImageError(f"question {self.id!r}: {error}") from error

    def regions(self) -> list[BoolArray]:
        """Return, per image, the pixels (H, W) that any mask covers; raises ImageError for a broken one."""
        stored = self.load()["masks"]
        try:
            return [
                union([np.zeros(size[::-1], dtype=bool), *(decode_mask(stored[i]) for i in numbers)])
                for size, numbers in zip(self.sizes, self.masks, strict=True)
            ]
        except (ImageError, ValueError) as error:
            raise ImageError(f"question {self.id!r}: a mask that cannot be read: {error}") from error


def questions(rows: Iterable[Mapping[str, Any]], turns: str = "first") -> Iterator[Question]:
    """Yield the questions of benchmark rows or conversation rows.

    Args:
        rows: raw rows; each is checked.
        turns: of a conversation, ask the ``"first"`` question only, or ``"all"`` of them, each after the turns
            before it as they stand in the row (their answers may give the evidence away).

    Raises:
        RowError: a row that does not fit the schema.
        ValueError: an unknown ``turns``.
    """
    if turns not in ("first", "all"):
        raise ValueError(f"turns must be 'first' or 'all', got {turns!r}")
    for number, raw in enumerate(rows):
        row = validate_row(raw)
        load = partial(_row, rows, number) if hasattr(rows, "__getitem__") else partial(dict, raw)
        asked = row.turns if turns == "all" else row.turns[:1]
        picture = _digest(row.images)
        for i, turn in enumerate(asked):
            numbers = _of_images(row, i)
            yield Question(
                id=row.id if len(asked) == 1 else f"{row.id}#{i}",
                load=load,
                messages=tuple(row.messages(i)),
                answers=row.answers or (turn.answer,),
                sizes=row.sizes,
                evidence=tuple(_boxes(row, each) for each in numbers),
                masks=numbers,
                category=row.category or row.source,
                source=row.source,
                picture=picture,
            )


def _row(rows: Any, number: int) -> Mapping[str, Any]:
    return rows[number]


def _digest(images: Sequence[Any]) -> str:
    """Return a digest of images as they are stored; none is decoded, so none can fail here."""
    content = hashlib.sha256()
    for image in images:
        if isinstance(image, Image.Image):
            content.update(f"{image.mode} {image.size}".encode() + image.tobytes())
        elif isinstance(image, Mapping) and image.get("bytes"):
            content.update(image["bytes"])
        else:
            content.update(repr(image).encode())
    return content.hexdigest()[:16]


def _of_images(row: FiVLRow, turn: int) -> tuple[tuple[int, ...], ...]:
    """Return, per image, the numbers of a turn's expressions, which are those of their masks."""
    return tuple(
        tuple(n for n, each in enumerate(row.key_expressions) if (each.turn, each.image) == (turn, image))
        for image in range(len(row.images))
    )


def _boxes(row: FiVLRow, numbers: Sequence[int]) -> tuple[Box, ...]:
    return tuple(box for number in numbers for box in row.key_expressions[number].boxes)
