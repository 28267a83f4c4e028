"""Asking ahead: while workers ground some shards, the language model is asked about the next ones."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fivl_hf.augment.answers import AnswerCache
from fivl_hf.augment.conversations import Conversation, Failure
from fivl_hf.augment.expressions import Extraction, Rejected
from fivl_hf.augment.llm import ChatClient, ChatSettings, RequestError, ServiceError, Spent
from fivl_hf.augment.llm_extractor import ChatExtractor
from fivl_hf.augment.rows import MAX_ANSWER, Sample
from fivl_hf.augment.shards import Job
from fivl_hf.schema import RowError, Turn, conversation_turns

__all__ = ["AskedAhead", "askable_turns"]

_TOO_LONG = Extraction(rejected=(Rejected("", f"the answer has more than {MAX_ANSWER:,} characters"),))
_END = object()


def askable_turns(record: Any) -> tuple[Turn, ...]:
    """The turns of a record that a model would be asked about."""
    if not isinstance(record, Conversation):
        return ()
    try:
        turns, _ = conversation_turns(record.messages, record.id)
    except RowError:
        return ()
    return tuple(turn for turn in turns if len(turn.answer) <= MAX_ANSWER)


class AskedAhead:
    """Jobs whose extractions a chat model was asked for, in the order in which they are complete.

    Args:
        ahead: how many jobs may be asked for or wait at a time.
    """

    def __init__(self, jobs: Iterator[Job], settings: ChatSettings, cache: Path, ahead: int) -> None:
        self.spent = Spent()
        self.stopped: ServiceError | None = None
        self._jobs, self._settings, self._cache = jobs, settings, cache
        self._ahead = ahead
        self._done: queue.Queue[Any] = queue.Queue()

    def __iter__(self) -> Iterator[Job]:
        """Jobs with extractions. Ends early when the service stops, which :attr:`stopped` then tells.

        Raises:
            Exception: whatever reading the jobs raised.
        """
        thread = threading.Thread(target=self._run, name="ask ahead", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(self._ahead)
        thread.start()
        try:
            while (job := self._done.get()) is not _END:
                if isinstance(job, BaseException):
                    raise job
                self._loop.call_soon_threadsafe(self._slots.release)
                yield job
        finally:
            if thread.is_alive():
                self._loop.call_soon_threadsafe(self._cancel)
            thread.join()
            self._loop.close()

    def _cancel(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._ask_all())
        except asyncio.CancelledError:
            pass
        except Exception as error:
            self._done.put(error)
        self._done.put(_END)

    async def _ask_all(self) -> None:
        cache = AnswerCache(self._cache)
        client = ChatClient(self._settings, cache, self.spent)
        extractor = ChatExtractor(client)
        tasks: set[asyncio.Task[None]] = set()
        try:
            while not self.stopped:
                await self._slots.acquire()
                job = await asyncio.to_thread(next, self._jobs, None)
                if job is None:
                    break
                task = asyncio.create_task(self._ask(job, extractor))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        finally:
            await client.close()
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
        if not askable_turns(record):
            return sample
        turns, _ = conversation_turns(record.messages, record.id)  # type: ignore[union-attr]
        found = await asyncio.gather(*(self._turn(turn, extractor) for turn in turns), return_exceptions=True)
        for error in found:
            if isinstance(error, RequestError):
                return Sample(Failure(record.id, "the language model did not answer", str(error)))
            if isinstance(error, BaseException):
                raise error
        return replace(sample, extractions=tuple(item for item in found if isinstance(item, Extraction)))

    async def _turn(self, turn: Turn, extractor: ChatExtractor) -> Extraction:
        return await extractor.extract_turn(turn) if len(turn.answer) <= MAX_ANSWER else _TOO_LONG
