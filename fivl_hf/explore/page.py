"""The page of ``fivl explore``: ask, click a word, click a patch, draw a box, compare."""

import base64
import binascii
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from PIL import Image

from fivl_hf.explain.knockout import Head
from fivl_hf.explore.examples import Example
from fivl_hf.explore.explorer import Explorer
from fivl_hf.explore.view import MEAN_OF_HEADS, Asked, Choices, render_answers
from fivl_hf.images import ImageError, open_rgb, thumbnail
from fivl_hf.show.drawing import enlarge
from fivl_hf.show.gradio_pages import scripted_page
from fivl_hf.show.pages import picture_url, render_page, template_text

__all__ = ["explorer_page"]

# Questions that are kept for their readers; the oldest is forgotten first.
_KEPT = 16
_MOST_BYTES = 20_000_000
_LARGEST = 2048
_THUMBNAIL = 150


def explorer_page(
    explorers: Sequence[Explorer], examples: Sequence[Example], head: Head | None = None, aligned: int = 0
) -> gr.Blocks:
    """Return the page for one model, or for two side by side.

    Args:
        examples: questions to begin with.
        head: whose attention is shown first; the mean of the last layer's if not given.
        aligned: on how many rows that head was chosen; 0 if it was not.
    """
    session = _Session(explorers, examples)
    title = " and ".join(explorer.name for explorer in explorers)
    top = render_page(
        "explore_top.html.jinja",
        title=title,
        examples=[{"question": each.question, "note": each.note, "thumbnail": _thumbnail(each)} for each in examples],
        layer=head[0] if head else max(each.layers for each in explorers) - 1,
        head=head[1] if head else MEAN_OF_HEADS,
        layers=max(each.layers for each in explorers),
        heads=max(each.heads for each in explorers),
        aligned=aligned,
    )
    script = template_text("drag.js") + template_text("explore.js")
    return scripted_page(f"Explore {title}", "explore", top, script, session.act)


def _thumbnail(example: Example) -> str:
    image = thumbnail(open_rgb(example.image), _THUMBNAIL)
    return picture_url(enlarge(image, _THUMBNAIL) if max(image.size) < _THUMBNAIL else image, "PNG")


@dataclass
class _Session:
    """Answers the page's script; one request at a time, since the models are looked into by hooks."""

    explorers: Sequence[Explorer]
    examples: Sequence[Example]
    asked: OrderedDict[str, Asked] = field(default_factory=OrderedDict)
    lock: Any = field(default_factory=threading.Lock)

    def act(self, request: Any) -> dict[str, Any]:
        """Ask a question, or show one that was asked in another way.

        Args:
            request: ``step``: "ask" (``question``, and ``example``, ``photo`` as a data URL, or ``asked`` for its
                image) or "look" (``asked``); and the reader's choices.

        Returns:
            ``asked`` and ``html``, or a ``problem`` for the reader.

        Raises:
            KeyError, TypeError, ValueError, IndexError: a request that the script does not make.
        """
        with self.lock:
            try:
                key = self._ask(request) if request["step"] == "ask" else str(request["asked"])
            except ValueError as error:  # what the reader can do otherwise
                return {"problem": f"{str(error)[:1].upper()}{str(error)[1:]}."}
            if key not in self.asked:
                return {"problem": "This question is no longer stored; ask it again."}
            self.asked.move_to_end(key)
            asked = self.asked[key]
            choices = Choices.read(request, asked, self.explorers)
            return {"asked": key, "html": render_answers(self.explorers, asked, choices)}

    def _ask(self, request: Mapping[str, Any]) -> str:
        """Ask all models, and return the key by which the answers are kept."""
        example = None
        if isinstance(request.get("example"), int):
            example = self.examples[request["example"]]
            image = open_rgb(example.image)
        elif request.get("photo"):
            image = _uploaded(str(request["photo"]))
        elif request.get("asked") in self.asked:
            before = self.asked[request["asked"]]
            image = before.answers[0].image
            # Another question about the same image: its evidence is not known.
            example = before.example if before.answers[0].question == request["question"] else None
        else:
            raise ValueError("choose an image first: a question above, or one of your own")
        question = example.question if example else str(request["question"])
        image = thumbnail(image, _LARGEST) if example is None else image
        answers = tuple(explorer.ask(image, question) for explorer in self.explorers)
        key = secrets.token_urlsafe(9)
        self.asked[key] = Asked(answers, example)
        while len(self.asked) > _KEPT:
            self.asked.popitem(last=False)
        return key


def _uploaded(url: str) -> Image.Image:
    """Return an uploaded image; raises ImageError."""
    kind, _, data = url.partition(";base64,")
    if not kind.startswith("data:image/") or len(data) > _MOST_BYTES * 4 // 3:
        raise ImageError("an image of at most 20 MB is needed")
    try:
        return open_rgb(base64.b64decode(data, validate=True))
    except (binascii.Error, ImageError) as error:
        raise ImageError("this file is not an image that can be read") from error
