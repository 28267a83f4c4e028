"""Ask a model behind an OpenAI-compatible endpoint many questions at a time."""

import asyncio
import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from fivl_hf.chat import as_blocks
from fivl_hf.evaluation.answerers.protocol import AnyRequest, Generated, Request
from fivl_hf.images import data_url, image_bytes, thumbnail
from fivl_hf.llm.answers import AnswerCache, Reply, answer_key
from fivl_hf.llm.batches import answer_by_batches
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.server import clean_text
from fivl_hf.llm.settings import ChatRequest, ChatSettings, RequestError, ServiceError, Usage

__all__ = ["EndpointAnswerer"]

_VERSION = "evaluate-1"
_Result = tuple[Request, Generated] | BaseException | None


class EndpointAnswerer:
    """Answers questions by asking an endpoint; paid answers are cached before they are used.

    Args:
        settings: model, server, budget and requests at a time; ``reply_tokens`` is the longest answer.
        cache: SQLite file of the answers.
        image_side: longest side of the images that are sent, in pixels; they are sent as they are if None.
        batch_api: ask by OpenAI's Batch API, at half the price and within a day.
    """

    def __init__(
        self, settings: ChatSettings, cache: Path, *, image_side: int | None = None, batch_api: bool = False
    ) -> None:
        self._settings = replace(settings, reply_format="text")
        self._cache, self._image_side, self._batch_api = cache, image_side, batch_api
        self.spent = Usage()
        self.failures: dict[str, int] = {}
        """Questions without an answer, by reason; they are asked again by the next run."""

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
        return {"unanswered": dict(sorted(self.failures.items()))}

    def answers(self, requests: Iterable[AnyRequest]) -> Iterator[tuple[AnyRequest, Generated]]:
        """Yield requests with their answers as they come; a refusal or an empty reply is an answer.

        Raises:
            ServiceError: no further request makes sense; what was answered before is yielded first.
        """
        settings = self._settings
        if self._batch_api:
            self._ask_in_batches(requests)
            settings = replace(settings, cached_only=True)
        results: queue.Queue[Any] = queue.Queue()
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(requests, settings, results, stop), daemon=True)
        thread.start()
        try:
            while (result := results.get()) is not None:
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            stop.set()
            thread.join()

    def _ask_in_batches(self, requests: Iterable[Request]) -> None:
        cache = AnswerCache(self._cache)
        try:
            answer_by_batches(map(self._request, requests), self._settings, cache, tell=tqdm.write)
        finally:
            cache.close()

    def _run(
        self,
        requests: Iterable[Request],
        settings: ChatSettings,
        results: "queue.Queue[_Result]",
        stop: threading.Event,
    ) -> None:
        try:
            asyncio.run(self._ask_all(iter(requests), settings, results, stop))
        except BaseException as error:  # told to the thread that waits for results
            results.put(error)
        results.put(None)

    async def _ask_all(
        self,
        requests: Iterator[Request],
        settings: ChatSettings,
        results: "queue.Queue[_Result]",
        stop: threading.Event,
    ) -> None:
        cache = AnswerCache(self._cache)
        client = ChatClient(settings, cache, self.spent)
        stopped: list[ServiceError] = []

        async def worker() -> None:
            # Images are opened when their turn comes: as many are in memory as are asked at a time.
            for request in requests:
                if stop.is_set() or stopped:
                    return
                try:
                    asked = self._request(request)
                    known, started = asked.key in cache, time.perf_counter()
                    generated = await client.ask(asked)
                    latency = None if known else time.perf_counter() - started
                    results.put((request, replace(generated, latency=latency)))
                except RequestError as error:
                    self.failures[error.reason] = self.failures.get(error.reason, 0) + 1
                except ServiceError as error:
                    stopped.append(error)

        workers = [asyncio.create_task(worker()) for _ in range(settings.concurrency)]
        watcher = asyncio.create_task(_cancel_when(stop, workers))
        try:
            ended = await asyncio.gather(*workers, return_exceptions=True)
        finally:
            watcher.cancel()
            await client.close()
            cache.close()
        problems = [each for each in ended if isinstance(each, Exception)]
        for problem in (*problems, *stopped):
            raise problem

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


async def _cancel_when(stop: threading.Event, workers: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel the workers once nobody waits for results; the client still keeps what is paid for."""
    while not stop.is_set():
        await asyncio.sleep(0.1)
    for worker in workers:
        worker.cancel()


def _read(reply: Reply) -> Generated:
    """Return a reply as it is: a refusal and silence are answers, too, and are counted as such."""
    if reply.refusal:
        return Generated(reply.refusal, "refusal")
    return Generated((reply.text or "").strip(), reply.finish)
