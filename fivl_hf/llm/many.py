"""Asking a language model about many items at a time, from ordinary code: answers are yielded as they come."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from fivl_hf.llm.answers import AnswerCache
from fivl_hf.llm.batches import answer_by_batches
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.settings import ChatRequest, ChatSettings, RequestError, ServiceError, Usage

__all__ = ["ManyRequests"]

Item = TypeVar("Item")
_Results = queue.Queue[Any]


@dataclass
class ManyRequests:
    """Asks about many items, as many at a time as the settings say; paid answers are cached before they are used.

    Attributes:
        settings: model, budget and concurrency.
        cache: SQLite file of the answers.
        batch_api: ask by OpenAI's Batch API, at half the price and within a day.
        spent: on all items so far.
        failures: items without a usable answer, by reason; the next run asks about them again.
        on_failure: is told of each such item, and why.
    """

    settings: ChatSettings
    cache: Path
    batch_api: bool = False
    spent: Usage = field(default_factory=Usage)
    failures: dict[str, int] = field(default_factory=dict)
    on_failure: Callable[[Any, str], None] | None = None

    def answers(
        self, items: Iterable[Item], request_of: Callable[[Item], ChatRequest]
    ) -> Iterator[tuple[Item, Any, float | None]]:
        """Yield each item, its reply's content and the seconds it took, None from the cache.

        Args:
            items: iterated over twice if ``batch_api`` is set.
            request_of: makes the request when an item's turn comes.

        Raises:
            ServiceError: no further request makes sense; what was answered before is yielded first.
        """
        settings = self.settings
        if self.batch_api:
            with closing(AnswerCache(self.cache)) as cache:
                answer_by_batches(map(request_of, items), settings, cache, tell=tqdm.write)
            settings = replace(settings, cached_only=True)
        results: _Results = queue.Queue()
        stop = threading.Event()
        asking = self._ask_all(iter(items), request_of, settings, results, stop)
        thread = threading.Thread(target=_run, args=(asking, results), daemon=True)
        thread.start()
        try:
            while (result := results.get()) is not None:
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            stop.set()
            thread.join()

    async def _ask_all(
        self,
        items: Iterator[Item],
        request_of: Callable[[Item], ChatRequest],
        settings: ChatSettings,
        results: _Results,
        stop: threading.Event,
    ) -> None:
        cache = AnswerCache(self.cache)
        client = ChatClient(settings, cache, self.spent)
        stopped: list[ServiceError] = []

        async def worker() -> None:
            # A request is made when its turn comes: as many images are in memory as are asked about at a time.
            for item in items:
                if stop.is_set() or stopped:
                    return
                try:
                    request = request_of(item)
                    known, started = request.key in cache, time.perf_counter()
                    content = await client.ask(request)
                    results.put((item, content, None if known else time.perf_counter() - started))
                except RequestError as error:
                    self.failures[error.reason] = self.failures.get(error.reason, 0) + 1
                    if self.on_failure:
                        self.on_failure(item, error.reason)
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


def _run(asking: Coroutine[Any, Any, None], results: _Results) -> None:
    try:
        asyncio.run(asking)
    except BaseException as error:  # passed to the thread that waits for results
        results.put(error)
    results.put(None)


async def _cancel_when(stop: threading.Event, workers: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel the workers once nobody waits for results; the client still keeps what is paid for."""
    while not stop.is_set():
        await asyncio.sleep(0.1)
    for worker in workers:
        worker.cancel()
