"""Hooks of the documentation's build."""

import re
from typing import Any

# References in docstrings, as Sphinx writes them.
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>(~?)([\w.]+)</code>")
_OUTSIDE = re.compile(r"\[(`?[^\]`]+`?)\]\(\.\./([^)#]+)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name files of the repository that the site does not have, in place of the links to them."""
    return _OUTSIDE.sub(_named, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show references in docstrings as names."""
    return _ROLE.sub(lambda found: f"<code>{found[2].rpartition('.')[2] if found[1] else found[2]}</code>", html)


def _named(found: re.Match[str]) -> str:
    text, path = found.groups()
    return f"`{path}`" if path in text else f"{text} (`{path}`)"
