"""The judge's prompts; raise the version when a text changes.

The paper's three questions and its scales: important or not with a degree from 0 to 10; yes or no for Seg1 and Seg2.
What differs: the words are ours, importance and degree are one request, a reply is JSON or one line so that it can be
checked, and Seg2 is asked about every expression of a sample (the authors' script asks about the last alone).
"""

import re
from typing import Any

from fivl_hf.augment.extractors.prompts import SEPARATOR
from fivl_hf.llm.json_replies import parse_json_reply
from fivl_hf.schema import Turn

__all__ = ["JUDGE_VERSION", "judge_messages", "judge_reminder", "judge_schema", "parse_judgement"]

JUDGE_VERSION = "judge-1"
_TASKS = {
    "importance": (
        "An expression was marked in the answer to a question about the picture. Does it matter: does it bear on the "
        "question, and could it not have been written without seeing the picture? Say whether it is important, and to "
        "which degree, from 0 (not at all) to 10 (the answer hangs on it)."
    ),
    "seg1": (
        "All of the picture is blacked out except one region. Does what is left show the expression, so that one can "
        "tell what it is?"
    ),
    "seg2": (
        "One region of the picture is blacked out. Is anything that the expression names still to be seen in the rest "
        "of the picture?"
    ),
}
_FORMATS = {
    ("importance", "json"): 'Reply with JSON only: {"important": true or false, "degree": 0 to 10}',
    ("importance", "text"): f"Reply with one line only: yes or no, {SEPARATOR}, and the degree.",
    ("seg", "json"): 'Reply with JSON only: {"visible": true or false}',
    ("seg", "text"): "Reply with one word only: yes or no.",
}
_YES_NO = re.compile(r"\W*(yes|no|true|false)\b", re.IGNORECASE)


def judge_messages(kind: str, format: str, turn: Turn, text: str, image_url: str) -> list[dict[str, Any]]:
    """Return the request of one kind ("importance", "seg1", "seg2") about an expression."""
    shape = judge_reminder(kind, format)
    asked = f"Expression: {text}"
    if kind == "importance":
        asked = f"Question: {turn.question}\nAnswer: {turn.answer}\n{asked}"
    content = [{"type": "image_url", "image_url": {"url": image_url}}, {"type": "text", "text": asked}]
    return [{"role": "system", "content": f"{_TASKS[kind]}\n\n{shape}"}, {"role": "user", "content": content}]


def judge_reminder(kind: str, format: str) -> str:
    """Return the sentence that asks for the reply format of a kind of request."""
    return _FORMATS["importance" if kind == "importance" else "seg", format]


def judge_schema(kind: str) -> dict[str, Any]:
    """Return the JSON schema of a reply."""
    properties: dict[str, Any] = {"visible": {"type": "boolean"}}
    if kind == "importance":
        properties = {"important": {"type": "boolean"}, "degree": {"type": "integer"}}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def parse_judgement(kind: str, text: str, format: str) -> dict[str, Any]:
    """Return the judgement's fields that a reply fills: ``important`` and ``degree``, ``seg1`` or ``seg2``.

    Raises:
        ValueError: a reply of another shape.
    """
    if format == "text":
        said, _, number = text.partition(SEPARATOR)
        answer: Any = {"visible": _yes(said), "important": _yes(said), "degree": _number(number)}
    else:
        answer = parse_json_reply(text)
    if not isinstance(answer, dict):
        raise ValueError("the reply is JSON, but not an object")
    if kind != "importance":
        return {kind: _boolean(answer, "visible")}
    degree = answer.get("degree")
    if isinstance(degree, float) and degree.is_integer():
        degree = int(degree)
    if isinstance(degree, bool) or not isinstance(degree, int) or not 0 <= degree <= 10:
        raise ValueError(f"a degree from 0 to 10 was asked for, got {degree!r}")
    return {"important": _boolean(answer, "important"), "degree": degree}


def _boolean(answer: dict[str, Any], name: str) -> bool:
    value = answer.get(name)
    if not isinstance(value, bool):
        raise ValueError(f"'{name}' is to be true or false, got {value!r}")
    return value


def _yes(text: str) -> bool | None:
    found = _YES_NO.match(text)
    return found.group(1).lower() in ("yes", "true") if found else None


def _number(text: str) -> int | None:
    found = re.search(r"\d+", text)
    return int(found.group()) if found else None
