"""Questions to a model, with their images, reference answers and evidence."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from fivl_hf.images import ImageError, open_rgb
from fivl_hf.schema import FiVLRow, validate_row

__all__ = ["Question", "questions"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Question:
    """One question to answer.

    Attributes:
        id: the row's id, with the turn where a row gives several questions.
        load_images: the row's images, in order and in stored form; read from the dataset again where that can be
            indexed, so that a large benchmark's images are not all held in memory.
        messages: the conversation up to and including the question, in chat format.
        answers: reference answers, any of which is right.
        sizes: (width, height) of each image.
        evidence: per image, the boxes of the key expressions in source pixels.
        category: free text to group results by.
        source: where the row comes from; benchmarks have their scorers by it.
        picture: digest of the images, the same for all questions about them.
    """

    id: str
    load_images: Callable[[], Sequence[Any]]
    messages: tuple[dict[str, str], ...]
    answers: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    evidence: tuple[tuple[Box, ...], ...]
    category: str = ""
    source: str = ""
    picture: str = ""

    @property
    def has_evidence(self) -> bool:
        return any(self.evidence)

    def images(self) -> list[Image.Image]:
        """Open the images; raises ImageError, naming the question, for one that cannot be shown."""
        try:
            return [open_rgb(image) for image in self.load_images()]
        except ImageError as error:
            raise ImageError(f"question {self.id!r}: {error}") from error


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
        load_images = partial(_images_of, rows, number) if hasattr(rows, "__getitem__") else partial(tuple, row.images)
        asked = row.turns if turns == "all" else row.turns[:1]
        picture = _digest(row.images)
        for i, turn in enumerate(asked):
            yield Question(
                id=row.id if len(asked) == 1 else f"{row.id}#{i}",
                load_images=load_images,
                messages=tuple(row.messages(i)),
                answers=row.answers or (turn.answer,),
                sizes=row.sizes,
                evidence=_evidence(row, i),
                category=row.category or row.source,
                source=row.source,
                picture=picture,
            )


def _images_of(rows: Any, number: int) -> Sequence[Any]:
    return rows[number]["images"]


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


def _evidence(row: FiVLRow, turn: int) -> tuple[tuple[Box, ...], ...]:
    boxes: Sequence[list[Box]] = [[] for _ in row.images]
    for expression in row.key_expressions:
        if expression.turn == turn:
            boxes[expression.image].extend(expression.boxes)
    return tuple(map(tuple, boxes))
