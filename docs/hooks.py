"""Hooks of the documentation's build."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[(`?[^\]`]+`?)\]\(\.\./([^)#]+)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name files of the repository that the site does not have, in place of the links to them."""
    return _OUTSIDE.sub(_named, markdown)


def _named(found: re.Match[str]) -> str:
    text, path = found.groups()
    return f"`{path}`" if path in text else f"{text} (`{path}`)"
