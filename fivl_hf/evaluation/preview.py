"""A page of questions' images under every condition, to be looked at before anything is asked."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from fivl_hf.evaluation.plan import PlannedRequest
from fivl_hf.images import thumbnail
from fivl_hf.show.pages import picture_url, render_page

__all__ = ["write_preview"]

_SIDE = 336


def write_preview(requests: Iterable[PlannedRequest], path: Path, title: str) -> None:
    """Write a page with the images and the question of each request, a card for each question.

    Raises:
        ImageError: an image that cannot be shown; the message names the question.
        ValueError: a condition that needs a package which is not installed.
    """
    cards = [_card(list(under)) for _, under in groupby(requests, key=lambda request: request.id)]
    path.write_text(render_page("preview.html.jinja", title=title, cards=cards), encoding="utf-8")


def _card(requests: list[PlannedRequest]) -> dict[str, Any]:
    question = requests[0].question
    views = [
        {
            "condition": request.condition,
            "urls": [picture_url(thumbnail(image, _SIDE), "JPEG") for image in request.open_images()],
        }
        for request in requests
    ]
    return {
        "id": question.id,
        "prompt": requests[0].messages[-1]["content"],
        "references": " / ".join(question.answers),
        "views": views,
        "has_evidence": question.has_evidence,
    }
