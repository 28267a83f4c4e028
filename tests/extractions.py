"""Turns to extract key expressions from, and what is read off their extractions."""

from typing import Any

from fivl_hf.augment.extractors.chat import expression_request
from fivl_hf.llm.settings import ChatRequest
from fivl_hf.schema import Turn


def turns(count: int) -> list[Turn]:
    return [Turn("What is it?", f"This is number{i}.") for i in range(count)]


def requests(count: int, start: int = 0) -> list[ChatRequest]:
    return [expression_request(turn, "m") for turn in turns(count)[start:]]


def words(extraction: Any) -> list[str]:
    return [mention.text for mention in extraction.mentions]


def reasons(extraction: Any) -> list[str]:
    return [item.reason for item in extraction.rejected]
