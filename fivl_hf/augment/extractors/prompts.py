"""The prompts of key-expression extraction. Whoever changes one raises its version, by which answers are cached."""

import re
from typing import Any

from fivl_hf.files.json_stream import parse_json
from fivl_hf.schema import Turn

__all__ = [
    "EXPRESSIONS_SCHEMA",
    "EXPRESSIONS_VERSION",
    "SEPARATOR",
    "expression_messages",
    "format_reminder",
    "parse_expressions",
    "without_fence",
]

EXPRESSIONS_VERSION = "expressions-1"
SEPARATOR = ":::"
_THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
EXPRESSIONS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"expressions": {"type": "array", "items": {"type": "string"}}},
    "required": ["expressions"],
    "additionalProperties": False,
}

_TASK = """\
You get a question about an image and its answer; you do not see the image. List the key expressions of the answer: \
the words or short phrases that somebody could have written only after looking at the image.

- Copy each expression from the answer letter by letter; do not rephrase, translate or correct it.
- Prefer short noun phrases that name something visible (an object, a person, an animal, a part, a written word) with \
the adjectives that describe it. No whole sentences, no opinions, no general knowledge.
- Leave out what the question already gives away and what could be guessed without the image.
- If the whole answer is a single word or number, such as "Yes" or "3", you may copy the expressions from the question \
instead: the things one has to look at to answer it.
- If there are none, give none."""
_FORMATS = {
    "json": '\n\nReply with JSON only: {"expressions": ["first expression", "second expression"]}',
    "text": f"\n\nReply with one line only: the expressions, separated by {SEPARATOR}, or the word none.",
}


def expression_messages(turn: Turn, format: str) -> list[dict[str, Any]]:
    """Return the request for one turn's key expressions; ``format`` is "json" or "text"."""
    asked = f"Question: {turn.question}\nAnswer: {turn.answer}"
    return [{"role": "system", "content": _TASK + _FORMATS[format]}, {"role": "user", "content": asked}]


def format_reminder(format: str) -> str:
    """Return the sentence that asks for a reply format again; ``format`` is "json" or "text"."""
    return _FORMATS[format].strip()


def parse_expressions(text: str, format: str) -> list[str]:
    """Return the expressions that a reply lists.

    Raises:
        ValueError: not valid JSON, or JSON of another shape.
    """
    if format == "text":
        return _THOUGHTS.sub("", text).split(SEPARATOR)
    try:
        reply = parse_json(without_fence(text))
    except ValueError as error:
        raise ValueError("the reply is not valid JSON") from error
    listed = reply.get("expressions") if isinstance(reply, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise ValueError("the reply is JSON, but not a list of expressions")
    return listed


def without_fence(text: str) -> str:
    """Strip what chat models like to add to JSON: their thoughts before it, a Markdown code fence around it."""
    text = _THOUGHTS.sub("", text).strip()
    if text.startswith("```"):
        return text.removeprefix("```").removeprefix("json").removesuffix("```")
    return text
