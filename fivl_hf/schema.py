"""The FiVL row: its columns, its dataclass view, and the check every row passes before it is stored or used.

A row is an ordinary TRL vision row (``images``, ``messages``) plus the evidence (``key_expressions``, ``masks``).
A benchmark row has ``question``, ``answers`` and ``category`` in place of ``messages``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from datasets import Features, Image, List, Value
from PIL import Image as PILImage

from fivl_hf.images import ImageError, open_image

__all__ = [
    "BENCHMARK_FEATURES",
    "FEATURES",
    "FiVLRow",
    "KeyExpression",
    "RowError",
    "Turn",
    "conversation_turns",
    "validate_key_expressions",
    "validate_row",
]

_KEY_EXPRESSION = {
    "turn": Value("int32"),
    "text": Value("string"),
    "start": Value("int32"),
    "end": Value("int32"),
    "keywords": List(Value("string")),
    "boxes": List(List(Value("float32"))),
    "score": Value("float32"),
    "image": Value("int32"),
}
_EVIDENCE = {"key_expressions": List(_KEY_EXPRESSION), "masks": List(Image()), "source": Value("string")}

FEATURES = Features(
    {
        "id": Value("string"),
        "images": List(Image()),
        "messages": List({"role": Value("string"), "content": Value("string")}),
        **_EVIDENCE,
    }
)
BENCHMARK_FEATURES = Features(
    {
        "id": Value("string"),
        "images": List(Image()),
        "question": Value("string"),
        "answers": List(Value("string")),
        "category": Value("string"),
        **_EVIDENCE,
    }
)

_LISTS = ("images", "messages", "answers", "key_expressions", "masks")

# float32 storage may push a box a hair over the image's edge.
_BOX_TOLERANCE = 0.01


class RowError(ValueError):
    """A row that does not fit the schema; the message names row, column, what was expected and what was found."""

    def __init__(self, row: object, column: str, expected: str, value: object) -> None:
        super().__init__(f"row {row!r}: column '{column}': expected {expected}, found {value}")


@dataclass(frozen=True)
class Turn:
    """One question-answer pair."""

    question: str
    answer: str


@dataclass(frozen=True)
class KeyExpression:
    """Words of an answer that need the image, and where the image shows them.

    Attributes:
        turn: 0-based index of the question-answer pair.
        text: the words as they stand in the answer (or in the question, when ``start`` is -1).
        start, end: character span of ``text`` in the answer; -1 when grounded through the question.
        keywords: nouns of ``text``, in order.
        boxes: evidence as (x0, y0, x1, y1) in pixels of the source image.
        score: best detector confidence, or None.
        image: index into the row's images.
    """

    turn: int
    text: str
    start: int
    end: int
    keywords: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    score: float | None = None
    image: int = 0

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "KeyExpression":
        """Build one from a row's fields; they are believed (:func:`validate_key_expressions` checks them)."""
        return cls(
            turn=int(raw["turn"]),
            text=raw["text"],
            start=int(raw["start"]),
            end=int(raw["end"]),
            keywords=tuple(raw["keywords"]),
            boxes=tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in raw["boxes"]),
            score=None if raw["score"] is None else float(raw["score"]),
            image=int(raw["image"]),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "keywords": list(self.keywords),
            "boxes": [list(box) for box in self.boxes],
        }


@dataclass(frozen=True)
class FiVLRow:
    """A checked row; ``images`` and ``masks`` keep the form they came in (:func:`fivl_hf.images.open_image`)."""

    id: str
    images: tuple[Any, ...]
    turns: tuple[Turn, ...]
    key_expressions: tuple[KeyExpression, ...]
    masks: tuple[Any, ...]
    source: str
    sizes: tuple[tuple[int, int], ...]
    answers: tuple[str, ...] = ()
    category: str = ""
    system: str | None = None

    def messages(self, turn: int | None = None) -> list[dict[str, str]]:
        """Return the conversation in chat format: all of it, or up to and including the question of one turn."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for each in self.turns[:turn]:
            messages.append({"role": "user", "content": each.question})
            messages.append({"role": "assistant", "content": each.answer})
        if turn is not None:
            messages.append({"role": "user", "content": self.turns[turn].question})
        return messages


def validate_row(row: Mapping[str, Any], *, name: object = None) -> FiVLRow:
    """Check one row (conversation or benchmark) and return its dataclass view.

    Args:
        row: a raw row, as read from a dataset or about to be written.
        name: what to call the row in errors; its ``id`` if not given.

    Raises:
        RowError: naming the row, the column, what was expected and what was found.
    """
    if not isinstance(row, Mapping):
        raise RowError(name, "*", "a row with named columns", repr(row))
    name = row.get("id", "?") if name is None else name
    benchmark = "question" in row
    for column in BENCHMARK_FEATURES if benchmark else FEATURES:
        if column not in row or (row[column] is None and column not in ("source", "category")):
            raise RowError(name, column, "a value", "none: the column is missing")
        if column in _LISTS and not isinstance(row[column], list | tuple):
            raise RowError(name, column, "a list", repr(row[column]))
        if column in ("source", "category") and not isinstance(row[column], str | None):
            raise RowError(name, column, "a string or null", repr(row[column]))
    if not isinstance(row["id"], str) or not row["id"]:
        raise RowError(name, "id", "a non-empty string", repr(row["id"]))

    sizes = tuple(_open(name, f"images[{i}]", image).size for i, image in enumerate(row["images"]))
    if benchmark:
        turns, system = _benchmark_turns(row, name), None
    else:
        turns, system = conversation_turns(row["messages"], name)
    expressions = validate_key_expressions(row["key_expressions"], turns, sizes, name)
    _check_masks(row["masks"], expressions, sizes, name)
    return FiVLRow(
        id=row["id"],
        images=tuple(row["images"]),
        turns=turns,
        key_expressions=expressions,
        masks=tuple(row["masks"]),
        source=row["source"] or "",
        sizes=sizes,
        answers=tuple(row["answers"]) if benchmark else (),
        category=(row["category"] or "") if benchmark else "",
        system=system,
    )


def validate_key_expressions(
    raw: Iterable[Mapping[str, Any]], turns: Sequence[Turn] | None, sizes: Sequence[tuple[int, int]], name: object
) -> tuple[KeyExpression, ...]:
    """Check a row's key expressions against its turns and the sizes of its images.

    Args:
        turns: the question-answer pairs; None where a row's turns are not known (turn and span are then not checked).
        sizes: (width, height) of each image.
        name: what to call the row in errors.

    Raises:
        RowError: as :func:`validate_row`.
    """
    return tuple(_key_expression(item, f"key_expressions[{i}]", name, turns, sizes) for i, item in enumerate(raw))


def _open(name: object, column: str, value: Any) -> PILImage.Image:
    try:
        return open_image(value)
    except ImageError as error:
        raise RowError(name, column, "a readable image", error) from error


def conversation_turns(messages: Iterable[Mapping[str, Any]], name: object) -> tuple[tuple[Turn, ...], str | None]:
    """Return the question-answer pairs of a conversation, and its system message.

    Raises:
        RowError: roles that do not take turns, or content that is not text.
    """
    messages = list(messages)
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise RowError(name, f"messages[{i}]", "a role and a text as content", repr(message))
    system = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else None
    roles = [message["role"] for message in messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise RowError(name, "messages", "user and assistant in turn, ending with assistant", roles)
    pairs = zip(messages[::2], messages[1::2], strict=True)
    return tuple(Turn(user["content"], assistant["content"]) for user, assistant in pairs), system


def _benchmark_turns(row: Mapping[str, Any], name: object) -> tuple[Turn, ...]:
    if not isinstance(row["question"], str):
        raise RowError(name, "question", "a string", repr(row["question"]))
    _check_strings(row["answers"], "answers", name)
    if not row["answers"]:
        raise RowError(name, "answers", "at least one string", "none")
    return (Turn(row["question"], row["answers"][0]),)


def _check_strings(value: Any, column: str, name: object) -> None:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise RowError(name, column, "a list of strings", repr(value))


def _key_expression(
    raw: Any, column: str, name: object, turns: Sequence[Turn] | None, sizes: Sequence[tuple[int, int]]
) -> KeyExpression:
    if not isinstance(raw, Mapping):
        raise RowError(name, column, "a key expression's fields", repr(raw))
    for field in _KEY_EXPRESSION:
        if field not in raw:
            raise RowError(name, f"{column}.{field}", "a value", "none: the field is missing")
    turn, image, start, end, text = (raw[field] for field in ("turn", "image", "start", "end", "text"))
    for field in ("turn", "image", "start", "end"):
        if not isinstance(raw[field], Integral) or isinstance(raw[field], bool):
            raise RowError(name, f"{column}.{field}", "a whole number", repr(raw[field]))
    if turns is not None and not 0 <= turn < len(turns):
        raise RowError(name, f"{column}.turn", f"0 to {len(turns) - 1} (the row has {len(turns)} turns)", turn)
    if not 0 <= image < len(sizes):
        raise RowError(name, f"{column}.image", f"the index of one of {len(sizes)} images", image)
    if not isinstance(text, str) or not text.strip():
        raise RowError(name, f"{column}.text", "a non-empty string", repr(text))
    if turns is not None:
        _check_span(start, end, text, turns[turn], column, name)
    _check_strings(raw["keywords"], f"{column}.keywords", name)
    if not isinstance(raw["boxes"], list | tuple):
        raise RowError(name, f"{column}.boxes", "a list of boxes", repr(raw["boxes"]))
    score = raw["score"]
    if score is not None and not (_is_number(score) and 0 <= float(score) <= 1):
        raise RowError(name, f"{column}.score", "null or a number from 0 to 1", score)
    boxes = [_check_box(box, f"{column}.boxes[{i}]", name, sizes[image]) for i, box in enumerate(raw["boxes"])]
    return KeyExpression.from_dict({**raw, "boxes": boxes})


def _check_span(start: int, end: int, text: str, turn: Turn, column: str, name: object) -> None:
    answer = turn.answer
    if (start, end) == (-1, -1):
        if text.casefold() not in f"{turn.question}\n{answer}".casefold():
            raise RowError(name, f"{column}.text", f"words of the question {turn.question!r}", repr(text))
        return
    found = answer[start:end] if 0 <= start <= end <= len(answer) else None
    if found != text:
        shown = repr(found) if found is not None else f"the span [{start}, {end}) of {len(answer)} characters"
        raise RowError(name, f"{column}.start/end", f"the span of {text!r} in the answer {answer!r}", shown)


def _check_box(box: Any, column: str, name: object, size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    numbers = isinstance(box, list | tuple) and len(box) == 4 and all(map(_is_number, box))
    if not numbers:
        raise RowError(name, column, "four finite numbers x0, y0, x1, y1", str(box)[:80])
    corners = tuple(float(value) for value in box)
    x0, y0, x1, y1 = corners
    inside = min(x0, y0) >= -_BOX_TOLERANCE and x1 <= width + _BOX_TOLERANCE and y1 <= height + _BOX_TOLERANCE
    if not (inside and x0 < x1 and y0 < y1):
        raise RowError(name, column, f"x0 < x1 and y0 < y1 inside the {width}x{height} image", corners)
    return x0, y0, x1, y1


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite real number that fits a float; booleans do not count."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _check_masks(
    masks: Any, expressions: tuple[KeyExpression, ...], sizes: tuple[tuple[int, int], ...], name: object
) -> None:
    if len(masks) != len(expressions):
        raise RowError(name, "masks", f"one mask per key expression ({len(expressions)})", f"{len(masks)} masks")
    for i, (mask, expression) in enumerate(zip(masks, expressions, strict=True)):
        image = _open(name, f"masks[{i}]", mask)
        width, height = sizes[expression.image]
        if image.size != (width, height):
            expected = f"the size of image {expression.image}, {width}x{height}"
            raise RowError(name, f"masks[{i}]", expected, f"{image.size[0]}x{image.size[1]}")
        if image.mode not in ("1", "L"):
            raise RowError(name, f"masks[{i}]", "a black-and-white image (mode 1 or L)", f"mode {image.mode}")
