"""The prompts of key-expression extraction. Whoever changes one raises its version, by which answers are cached."""

from typing import Any

from fivl_hf.llm.json_replies import parse_json_reply, without_thoughts
from fivl_hf.schema import Turn

__all__ = [
    "EXPRESSIONS_SCHEMA",
    "EXPRESSIONS_VERSION",
    "SEPARATOR",
    "expression_messages",
    "format_reminder",
    "parse_expressions",
]

EXPRESSIONS_VERSION = "expressions-1"
SEPARATOR = ":::"
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
        return without_thoughts(text).split(SEPARATOR)
    reply = parse_json_reply(text)
    listed = reply.get("expressions") if isinstance(reply, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise ValueError("the reply is JSON, but not a list of expressions")
    return listed
