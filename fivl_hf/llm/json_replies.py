"""Replies that are to be JSON, with what chat models like to add to it."""

import re
from typing import Any

from fivl_hf.files.json_stream import parse_json

__all__ = ["parse_json_reply", "without_thoughts"]

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
