"""OpenAI's Batch API: requests at half the price, answered within a day. Submitting, waiting and collecting can be
interrupted anywhere; the same command goes on."""

import asyncio
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fivl_hf.augment.answers import AnswerCache, BatchJob
from fivl_hf.augment.json_stream import DiskTable, json_lines
from fivl_hf.augment.llm import (
    ChatRequest,
    ChatSettings,
    ServiceError,
    default_options,
    open_sdk,
    read_completion,
    request_body,
)

__all__ = ["answer_by_batches"]

# The API's limits are 50,000 requests and 200 MB a file.
MAX_REQUESTS = 50_000
MAX_BYTES = 150_000_000
_ENDPOINT = "/v1/chat/completions"
_LABEL = "fivl_batch"
_ENDED = ("completed", "failed", "expired", "cancelled")


def answer_by_batches(
    requests: Iterable[ChatRequest],
    settings: ChatSettings,
    cache: AnswerCache,
    folder: Path,
    *,
    poll_seconds: float = 60.0,
    tell: Callable[[str], None] = print,
) -> None:
    """Have every request answered into the cache that is not there yet; waits until all batches have ended.

    What a batch leaves unanswered (errors, expired) is not in the cache afterwards; it can be asked directly.

    Args:
        folder: keeps the submitted files, to know what is under way.
        poll_seconds: time between two looks at the batches.
        tell: called with a line about the state.

    Raises:
        ServiceError: a batch was rejected as a whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(_Batches(settings, cache, folder, poll_seconds, tell).answer(requests))


class _Batches:
    def __init__(
        self, settings: ChatSettings, cache: AnswerCache, folder: Path, poll_seconds: float, tell: Callable[[str], None]
    ) -> None:
        self._settings, self._cache, self._folder = settings, cache, folder
        self._poll_seconds, self._tell = poll_seconds, tell
        self._sdk = open_sdk(settings)
        self._format = "text" if settings.reply_format == "text" else "json"

    async def answer(self, requests: Iterable[ChatRequest]) -> None:
        import openai

        try:
            under_way = await self._under_way()
            for lines, count in self._files(requests, under_way):
                await self._submit(lines, count)
            await self._collect_all()
        except openai.OpenAIError as error:
            raise ServiceError(f"Batch API: {' '.join(str(error).split())[:300]}; run it again to go on") from error
        finally:
            await self._sdk.close()

    async def _under_way(self) -> DiskTable:
        """The keys of requests submitted earlier and not collected yet."""
        keys = DiskTable()
        pending = self._cache.batches()
        if any(job.id is None for job in pending):
            # Killed between submitting a batch and noting its id: the batch carries its name.
            known = {(batch.metadata or {}).get(_LABEL): batch.id async for batch in self._sdk.batches.list(limit=100)}
            for job in (job for job in pending if job.id is None):
                found = BatchJob(job.name, known.get(job.name), job.requests)
                self._cache.note_batch(found, collected=found.id is None)
        for job in self._cache.batches():
            for _, line in json_lines(self._path(job.name)):
                keys.put(line["custom_id"])
        return keys

    def _files(self, requests: Iterable[ChatRequest], under_way: DiskTable) -> Iterator[tuple[list[bytes], int]]:
        """The lines of each file to submit."""
        lines: list[bytes] = []
        size = 0
        for request in requests:
            if request.key in self._cache or request.key in under_way:
                continue
            under_way.put(request.key)
            body = request_body(self._settings.model, request, self._format, default_options(self._settings))
            task = {"custom_id": request.key, "method": "POST", "url": _ENDPOINT, "body": body}
            line = json.dumps(task, ensure_ascii=False).encode() + b"\n"
            if lines and (len(lines) >= MAX_REQUESTS or size + len(line) > MAX_BYTES):
                yield lines, len(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            yield lines, len(lines)

    async def _submit(self, lines: list[bytes], count: int) -> None:
        name = uuid.uuid4().hex
        path = self._path(name)
        temporary = path.with_suffix(".part")
        temporary.write_bytes(b"".join(lines))
        os.replace(temporary, path)
        self._cache.note_batch(BatchJob(name, None, count))
        uploaded = await self._sdk.files.create(file=path, purpose="batch")
        batch = await self._sdk.batches.create(
            input_file_id=uploaded.id, endpoint=_ENDPOINT, completion_window="24h", metadata={_LABEL: name}
        )
        self._cache.note_batch(BatchJob(name, batch.id, count))
        self._tell(f"batch {batch.id}: {count:,} requests submitted")

    async def _collect_all(self) -> None:
        while pending := self._cache.batches():
            ended = [await self._collect(job) for job in pending]
            if not all(ended):
                self._tell(
                    f"{ended.count(False)} batches are under way; looking again in {self._poll_seconds:g} s "
                    "(stop it and run it again any time)"
                )
                await asyncio.sleep(self._poll_seconds)

    async def _collect(self, job: BatchJob) -> bool:
        """Take the results of a batch into the cache; False while it has not ended."""
        batch = await self._sdk.batches.retrieve(job.id)
        if batch.status not in _ENDED:
            return False
        if batch.status == "failed" and not batch.output_file_id:
            self._cache.note_batch(job, collected=True)
            reasons = [error.message for error in (batch.errors.data or [])] if batch.errors else []
            raise ServiceError(f"batch {job.id} was rejected: {'; '.join(map(str, reasons)) or 'no reason given'}")
        asked = {
            line["custom_id"]: line["body"]["messages"][-1]["content"] for _, line in json_lines(self._path(job.name))
        }
        answered = 0
        if batch.output_file_id:
            content = await self._sdk.files.content(batch.output_file_id)
            for line in content.text.splitlines():
                answered += self._keep(line, asked)
        self._cache.note_batch(job, collected=True)
        self._tell(f"batch {job.id}: {batch.status}, {answered:,} of {job.requests:,} answered")
        return True

    def _keep(self, line: str, asked: dict[str, Any]) -> bool:
        """Put one result into the cache; False for one that is no answer to what was asked."""
        try:
            result = json.loads(line)
            key, response = result["custom_id"], result["response"]
            if key not in asked or response["status_code"] != 200:
                return False
            reply = read_completion(response["body"], self._format)
        except (ValueError, KeyError, TypeError):
            return False
        self._cache.put(key, reply, model=self._settings.model, prompt="batch", asked=asked[key])
        return True

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"
