"""OpenAI's Batch API: requests at half the price, answered within a day. Submitting, waiting and collecting can be
interrupted anywhere; the same command resumes."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fivl_hf.files.atomic import write_atomically
from fivl_hf.files.disk_table import DiskTable
from fivl_hf.files.json_stream import json_lines, parse_json
from fivl_hf.llm.answers import AnswerCache, BatchJob
from fivl_hf.llm.client import UNUSABLE, ChatClient
from fivl_hf.llm.server import MAX_REPLY_BYTES, clean_text, read_completion
from fivl_hf.llm.settings import ChatRequest, ChatSettings, RequestError, ServiceError, Usage, estimated_tokens

__all__ = ["answer_by_batches"]

# The API's limits are 50,000 requests and 200 MB a file.
MAX_REQUESTS = 50_000
MAX_BYTES = 150_000_000
# Of the ordinary price.
PRICE = 0.5
_ENDPOINT = "/v1/chat/completions"
_LABEL = "fivl_batch"
# A batch is answered within a day, or never.
_CLAIM_SECONDS = 2 * 86_400.0
_ENDED = ("completed", "failed", "expired", "cancelled")


def answer_by_batches(
    requests: Iterable[ChatRequest],
    settings: ChatSettings,
    cache: AnswerCache,
    *,
    poll_seconds: float = 60.0,
    tell: Callable[[str], None] = print,
) -> None:
    """Answer every request that is not in the cache yet; waits until all batches have ended.

    The first request is asked directly, which shows at once whether the server takes such requests. What a batch leaves
    unanswered (errors, expired) is not in the cache afterwards. What was submitted is kept beside the cache.

    Args:
        settings: their budget covers what this call submits, by estimate: the tokens are known only afterwards.
        poll_seconds: time between two looks at the batches.
        tell: called with a line about the state.

    Raises:
        ServiceError: the server refuses, or a batch was rejected as a whole.
    """
    asyncio.run(_Batches(settings, cache, poll_seconds, tell).answer(requests))


class _Batches:
    def __init__(
        self, settings: ChatSettings, cache: AnswerCache, poll_seconds: float, tell: Callable[[str], None]
    ) -> None:
        self._settings, self._cache = settings, cache
        self._poll_seconds, self._tell = poll_seconds, tell
        self._folder = cache.path.with_suffix(".batches")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._client = ChatClient(settings, cache)
        # Looking and uploading may be repeated; submitting a batch twice would be paid twice.
        self._sdk = self._client.sdk.with_options(max_retries=settings.retries)
        self._submitted = Usage()
        self._claimed: list[str] = []
        self._elsewhere: list[str] = []
        for leftover in self._folder.glob(".*.part"):
            leftover.unlink()

    async def answer(self, requests: Iterable[ChatRequest]) -> None:
        import openai

        try:
            waiting = self._waiting(requests, await self._under_way())
            if first := next(waiting, None):
                await self._probe_server(first)
                self._submitted = self._client.spent
                for lines in self._files(waiting):
                    await self._submit(lines)
            await self._collect_all()
            while any(key not in self._cache and self._cache.is_claimed(key) for key in self._elsewhere):
                # Another run has claimed them, and may not have submitted them yet.
                await asyncio.sleep(self._poll_seconds)
                await self._collect_all()
        except openai.OpenAIError as error:
            raise ServiceError(f"Batch API: {clean_text(error)}; run it again to resume") from error
        finally:
            # What is in the cache needs no claim, and what was not answered may be asked by anyone.
            for key in self._claimed:
                self._cache.release(key)
            await self._client.close()

    async def _call(self, reply: Awaitable[Any], *fields: str) -> Any:
        """Await a reply of the Batch API, for as long as its attempts may take.

        Args:
            fields: that the reply must have.

        Raises:
            ServiceError: it takes longer, or is not a reply that the SDK can read.
        """
        limit = self._settings.timeout * (self._settings.retries + 1)
        try:
            value = await asyncio.wait_for(reply, limit)
            for name in fields:
                getattr(value, name)
            return value
        except asyncio.TimeoutError as error:
            raise ServiceError(f"Batch API: no reply within {limit:g} s; run it again to resume") from error
        except (RecursionError, AttributeError, TypeError, ValueError) as error:
            raise ServiceError(f"Batch API: a reply that cannot be read ({clean_text(error)})") from error

    async def _probe_server(self, first: ChatRequest) -> None:
        """Ask the first request directly, which shows whether the server takes such requests."""
        try:
            await self._client.ask(first)
        except RequestError as error:
            # It took the request, whatever it made of it.
            if error.reason != UNUSABLE:
                raise ServiceError(f"the first request, sent directly, failed: {error}") from error

    async def _under_way(self) -> DiskTable:
        """Return the keys of requests submitted earlier and not collected yet."""
        keys = DiskTable()
        pending = self._cache.batches()
        if any(job.id is None for job in pending):
            # Killed between submitting a batch and noting its id, or the reply was lost.
            known = await self._names_at_server()
            for job in (job for job in pending if job.id is None):
                found = BatchJob(job.name, known.get(job.name), job.requests)
                self._cache.note_batch(found, collected=found.id is None)
        # The list on disk may be larger than memory: 50,000 requests a batch, any number of batches.
        for job in self._cache.batches():
            for _, line in json_lines(self._path(job.name)):
                keys.put(line["custom_id"])
        return keys

    async def _names_at_server(self) -> dict[str, str]:
        """Return the ids of our batches that the server knows, by the name that each carries."""

        async def names() -> dict[str, str]:
            listed = self._sdk.batches.list(limit=100)
            return {str((batch.metadata or {}).get(_LABEL)): batch.id async for batch in listed}

        known: dict[str, str] = await self._call(names())
        return known

    def _waiting(self, requests: Iterable[ChatRequest], under_way: DiskTable) -> Iterator[ChatRequest]:
        for request in requests:
            if request.key not in self._cache and request.key not in under_way:
                under_way.put(request.key)
                yield request

    def _files(self, requests: Iterable[ChatRequest]) -> Iterator[list[bytes]]:
        """Yield the lines of each file to submit, until the budget is spent."""
        lines: list[bytes] = []
        size = 0
        for request in requests:
            # Of two runs with one cache, the one that claims a request submits it, and the other waits for it.
            if not self._cache.claim(request.key, _CLAIM_SECONDS):
                self._elsewhere.append(request.key)
                continue
            self._claimed.append(request.key)
            if request.key in self._cache:  # answered by the other run since it was looked up
                continue
            body = self._client.body(request)
            if not self._affordable(body):
                self._tell(f"the budget allows {self._submitted.requests:,} requests; the others are not submitted")
                break
            task = {"custom_id": request.key, "method": "POST", "url": _ENDPOINT, "body": body}
            line = json.dumps(task, ensure_ascii=False).encode() + b"\n"
            if lines and (len(lines) >= MAX_REQUESTS or size + len(line) > MAX_BYTES):
                yield lines
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            yield lines

    def _affordable(self, body: dict[str, Any]) -> bool:
        """Return whether one more request is within the budget; if so, it is counted."""
        limits, sent = self._settings, self._submitted
        prompt, completion = estimated_tokens(body["messages"])
        cost = limits.cost(sent.prompt_tokens + prompt, sent.completion_tokens + completion)
        tokens = sent.prompt_tokens + sent.completion_tokens + prompt + completion
        wanted = (
            (limits.max_requests, sent.requests + 1),
            (limits.max_tokens, tokens),
            (limits.max_cost, None if cost is None else cost * PRICE),
        )
        if any(limit is not None and used is not None and used > limit for limit, used in wanted):
            return False
        sent.requests += 1
        sent.prompt_tokens += prompt
        sent.completion_tokens += completion
        return True

    async def _submit(self, lines: list[bytes]) -> None:
        name = uuid.uuid4().hex
        path = self._path(name)
        write_atomically(path, b"".join(lines))
        # Noted before it is submitted: after a kill in between, the next run asks the server for a batch of this name.
        self._cache.note_batch(BatchJob(name, None, len(lines)))
        uploaded = await self._call(self._sdk.files.create(file=path, purpose="batch"), "id")
        id = await self._create(uploaded.id, name)
        self._cache.note_batch(BatchJob(name, id, len(lines)))
        self._tell(f"batch {clean_text(id)}: {len(lines):,} requests submitted")

    async def _create(self, file: str, name: str) -> str:
        """Create a batch; where the reply is lost, it is looked for by its name before anything else is done."""
        import openai

        try:
            created = self._client.sdk.batches.create(
                input_file_id=file, endpoint=_ENDPOINT, completion_window="24h", metadata={_LABEL: name}
            )
            return str((await self._call(created, "id")).id)
        except (openai.APIConnectionError, openai.InternalServerError, ServiceError):
            if id := (await self._names_at_server()).get(name):
                return id
            raise

    async def _collect_all(self) -> None:
        # Without those that another run is submitting at this moment.
        while pending := [job for job in self._cache.batches() if job.id is not None]:
            ended = [await self._collect(job) for job in pending]
            if not all(ended):
                self._tell(
                    f"{ended.count(False)} batches are under way; looking again in {self._poll_seconds:g} s "
                    "(stop it and run it again any time)"
                )
                await asyncio.sleep(self._poll_seconds)

    async def _collect(self, job: BatchJob) -> bool:
        """Take the results of a batch into the cache; False while it has not ended."""
        import openai

        try:
            batch = await self._call(self._sdk.batches.retrieve(job.id), "status", "output_file_id", "error_file_id")
        except openai.NotFoundError:
            self._cache.note_batch(job, collected=True)
            self._tell(
                f"batch {clean_text(job.id)}: the server does not know it any more; its requests count as unanswered"
            )
            return True
        if batch.status not in _ENDED:
            return False
        if batch.status == "failed" and not batch.output_file_id:
            self._cache.note_batch(job, collected=True)
            reasons = [error.message for error in (batch.errors.data or [])] if batch.errors else []
            shown = clean_text("; ".join(map(str, reasons))) or "no reason given"
            raise ServiceError(f"batch {clean_text(job.id)} was rejected: {shown}")
        asked = {line["custom_id"]: line["body"] for _, line in json_lines(self._path(job.name))}
        answered, problems = 0, Counter[str]()
        for file in (batch.output_file_id, batch.error_file_id):
            # Bytes, because text has more line ends than JSON Lines.
            content = (await self._call(self._sdk.files.content(file))).content if file else b""
            for line in content.split(b"\n"):
                if line.strip():
                    problem = self._keep(line, asked)
                    answered += problem is None
                    problems.update([problem] if problem else [])
        self._cache.note_batch(job, collected=True)
        shown = "".join(f"; {count:,} × {problem}" for problem, count in problems.most_common(3))
        self._tell(f"batch {clean_text(job.id)}: {batch.status}, {answered:,} of {job.requests:,} answered{shown}")
        return True

    def _keep(self, line: bytes, asked: dict[str, Any]) -> str | None:
        """Put one result into the cache; return what is wrong with it if it does not answer a submitted request."""
        if len(line) > MAX_REPLY_BYTES:
            return f"longer than {MAX_REPLY_BYTES:,} bytes"
        try:
            result = parse_json(line)
            key, response = result["custom_id"], result["response"]
            if key not in asked:
                return "not asked for"
            if response is None or response["status_code"] != 200:
                error = result.get("error") or response["body"]["error"]
                return clean_text(error.get("message") or error, 200)
            format = "json" if "response_format" in asked[key] else "text"
            reply = read_completion(response["body"], format)
        except (ValueError, KeyError, TypeError, AttributeError):
            return "not readable"
        question = asked[key]["messages"][-1]["content"]
        self._cache.put(key, reply, model=self._settings.model, prompt=f"batch/{format}", question=question)
        return None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"
