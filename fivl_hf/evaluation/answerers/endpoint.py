"""Ask a model behind an OpenAI-compatible endpoint many questions at a time."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from fivl_hf.chat import as_blocks
from fivl_hf.evaluation.answerers.protocol import AnyRequest, Generated, Request, Unanswered
from fivl_hf.images import data_url, image_bytes, thumbnail
from fivl_hf.llm.answers import Reply, answer_key
from fivl_hf.llm.many import ManyRequests
from fivl_hf.llm.server import clean_text
from fivl_hf.llm.settings import ChatRequest, ChatSettings, Usage

__all__ = ["EndpointAnswerer"]

_VERSION = "evaluate-1"


class EndpointAnswerer:
    """Answers questions by asking an endpoint; paid answers are cached before they are used.

    Args:
        settings: model, server, budget and requests at a time; ``reply_tokens`` is the longest answer.
        cache: SQLite file of the answers.
        image_side: longest side of the images that are sent, in pixels; they are sent as they are if None.
        batch_api: ask by OpenAI's Batch API, at half the price and within a day.
    """

    splits_over_processes = False

    def __init__(
        self, settings: ChatSettings, cache: Path, *, image_side: int | None = None, batch_api: bool = False
    ) -> None:
        self._settings = replace(settings, reply_format="text")
        self._image_side = image_side
        self.unanswered: list[Unanswered] = []
        self._many = ManyRequests(self._settings, cache, batch_api=batch_api, on_failure=self._leave_out)

    @property
    def spent(self) -> Usage:
        """The requests so far."""
        return self._many.spent

    @property
    def url(self) -> str:
        """The server's address, without what is secret in it."""
        return clean_text(self._settings.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1")

    @property
    def identity(self) -> dict[str, Any]:
        limit = self._settings.reply_tokens
        return {"endpoint": self.url, "image_side": self._image_side, "max_new_tokens": limit}

    @property
    def details(self) -> dict[str, Any]:
        return {}

    def answers(self, requests: Iterable[AnyRequest]) -> Iterator[tuple[AnyRequest, Generated]]:
        """Yield requests with their answers as they come; a refusal or an empty reply is an answer.

        Raises:
            ServiceError: no further request makes sense; what was answered before is yielded first.
        """
        for request, generated, latency in self._many.answers(requests, self._request):
            yield request, replace(generated, latency=latency)

    def _leave_out(self, request: Request, reason: str) -> None:
        self.unanswered.append(Unanswered(request.id, request.condition, reason))

    def _request(self, request: Request) -> ChatRequest:
        messages = request.messages
        images = [self._encoded(image) for image in request.open_images()]
        urls = iter(data_url(data, "png") for data in images)
        content = [
            {
                "role": message["role"],
                "content": [
                    {"type": "image_url", "image_url": {"url": next(urls)}} if block["type"] == "image" else block
                    for block in message["content"]
                ],
            }
            for message in as_blocks(messages, len(images))
        ]
        digests = [hashlib.sha256(data).hexdigest() for data in images]
        asked = json.dumps([dict(message) for message in messages])
        limit = str(self._settings.reply_tokens)
        return ChatRequest(
            key=answer_key(self._settings.model, _VERSION, asked, limit, *digests),
            prompt=_VERSION,
            messages=lambda _: content,
            schema={},
            read=_read,
            reminder=lambda _: "",
            asked={"question": messages[-1]["content"]},
        )

    def _encoded(self, image: Image.Image) -> bytes:
        return image_bytes(image if self._image_side is None else thumbnail(image, self._image_side))


def _read(reply: Reply) -> Generated:
    """Return a reply as it is: a refusal and silence are answers, too, and are counted as such."""
    if reply.refusal:
        return Generated(reply.refusal, "refusal")
    return Generated((reply.text or "").strip(), reply.finish)
