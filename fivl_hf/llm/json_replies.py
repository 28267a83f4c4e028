"""Reading JSON from the replies of chat models, which add thoughts and code fences."""

import re
from typing import Any

from fivl_hf.files.json_stream import parse_json

__all__ = ["parse_json_reply", "without_thoughts"]

_THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)


def parse_json_reply(text: str) -> Any:
    """Return the JSON value of a reply, which may have thoughts before it and a Markdown code fence around it.

    Raises:
        ValueError: not valid JSON.
    """
    text = without_thoughts(text).strip()
    if text.startswith("```"):
        text = text.removeprefix("```").removeprefix("json").removesuffix("```")
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError("the reply is not valid JSON") from error


def without_thoughts(text: str) -> str:
    """Return a reply without the thoughts that a reasoning model wrote before it."""
    return _THOUGHTS.sub("", text)
