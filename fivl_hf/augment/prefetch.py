"""Asking ahead: while workers ground some shards, the language model is asked about the next ones."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fivl_hf.augment.expressions import TOO_LONG, Extraction, ProtocolName, is_extractable
from fivl_hf.augment.extractors.chat import ChatExtractor
from fivl_hf.augment.inputs.conversations import Conversation, Record
from fivl_hf.augment.rows import Sample
from fivl_hf.jobs.outcomes import Failure
from fivl_hf.jobs.shards import Job
from fivl_hf.llm.answers import AnswerCache
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.settings import ChatSettings, RequestError, ServiceError, Usage
from fivl_hf.schema import RowError, Turn, conversation_turns

__all__ = ["PrefetchedExtractions", "askable_turns"]

_END = object()
_WAIT_SECONDS = 0.2


def askable_turns(record: Record) -> tuple[Turn, ...]:
    """Return the turns that a model is asked about: none of a record that cannot become a row."""
    return tuple(turn for turn in _turns(record) if is_extractable(turn))


def _turns(record: Record) -> tuple[Turn, ...]:
    if not isinstance(record, Conversation) or not all(image.exists() for image in record.images):
        return ()
    try:
        return conversation_turns(record.messages, record.id)[0]
    except RowError:
        return ()


class PrefetchedExtractions:
    """Jobs whose extractions a chat model was asked for, in the order in which they are complete.

    Args:
        jobs: to be read in one thread, not this one.
        settings: which model, and the budget.
        cache: SQLite file of the answers.
        ahead: how many jobs may be asked for or wait at a time.
        protocol: by whose rules replies are sorted.
    """

    def __init__(
        self,
        jobs: Iterator[Job],
        settings: ChatSettings,
        cache: Path,
        ahead: int,
        protocol: ProtocolName = "default",
    ) -> None:
        self.spent = Usage()
        self.stopped: ServiceError | None = None
        self._jobs, self._settings, self._cache = jobs, settings, cache
        self._ahead, self._protocol = ahead, protocol
        self._done: queue.Queue[Any] = queue.Queue()
        self._given_up = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Job]:
        """Yield jobs with extractions. Ends early when the service stops, which :attr:`stopped` then tells.

        Raises:
            Exception: whatever reading the jobs raised.
        """
        thread = threading.Thread(target=self._run, name="ask ahead", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(self._ahead)
        thread.start()
        try:
            while (job := self._next()) is not _END:
                if isinstance(job, BaseException):
                    raise job
                self._loop.call_soon_threadsafe(self._slots.release)
                yield job
        finally:
            if thread.is_alive():
                self._loop.call_soon_threadsafe(self._give_up)
            thread.join()
            self._loop.close()

    def _next(self) -> Any:
        # Python acts on a Ctrl-C that arrived just before the wait only when the wait ends.
        while True:
            with suppress(queue.Empty):
                return self._done.get(timeout=_WAIT_SECONDS)

    def _give_up(self) -> None:
        self._given_up = True
        # Wakes the reading loop, should it wait for a slot.
        self._slots.release()
        for task in self._tasks:
            task.cancel()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._ask_all())
        except Exception as error:
            self._done.put(error)
        finally:
            self._done.put(_END)

    async def _ask_all(self) -> None:
        cache = AnswerCache(self._cache)
        # One thread for all reading: what reads may hold things that belong to a thread.
        reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        try:
            client = ChatClient(self._settings, cache, self.spent)
            extractor = ChatExtractor(client, self._protocol)
            try:
                while True:
                    await self._slots.acquire()
                    job = None if self._given_up else await self._loop.run_in_executor(reader, next, self._jobs, None)
                    if job is None:
                        break
                    if self.stopped and not self._settings.cached_only:
                        # Reading on shows which shards are finished already.
                        self._slots.release()
                        continue
                    task = asyncio.create_task(self._ask(job, extractor))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                # What went wrong with one is in the queue already.
                await asyncio.gather(*self._tasks, return_exceptions=True)
            finally:
                await client.close()
        finally:
            reader.shutdown(wait=True)
            cache.close()

    async def _ask(self, job: Job, extractor: ChatExtractor) -> None:
        """Ask about one job's turns and pass it on; not if the service stopped before all were answered."""
        try:
            samples = await asyncio.gather(*(self._sample(sample, extractor) for sample in job.samples))
        except ServiceError as error:
            self.stopped = error
            self._slots.release()
        except Exception as error:
            self._done.put(error)
        else:
            self._done.put(replace(job, samples=tuple(samples)))

    async def _sample(self, sample: Sample, extractor: ChatExtractor) -> Sample:
        record = sample.record
        turns = _turns(record)
        if not turns:
            return sample
        found = await asyncio.gather(*(self._turn(turn, extractor) for turn in turns), return_exceptions=True)
        for error in found:
            if isinstance(error, RequestError):
                return Sample(Failure(record.id, error.reason, error.detail))
            if isinstance(error, BaseException):
                raise error
        return replace(sample, extractions=tuple(item for item in found if isinstance(item, Extraction)))

    async def _turn(self, turn: Turn, extractor: ChatExtractor) -> Extraction:
        return await extractor.extract_turn(turn) if is_extractable(turn) else TOO_LONG
