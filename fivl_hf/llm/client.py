"""A client for OpenAI-compatible servers: many requests at a time, retried, cached, within a budget."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from fivl_hf.llm.answers import AnswerCache, Reply
from fivl_hf.llm.server import ChatServer, RejectedError, TransientError
from fivl_hf.llm.settings import ChatRequest, ChatSettings, RequestError, ServiceError, Usage, estimated_tokens

__all__ = ["UNUSABLE", "ChatClient"]

# So many requests in a row without one reply mean that the server is gone, not that the requests are odd.
_FAILURES_IN_A_ROW = 20
# Seconds that requests in flight get when the client is closed.
_LAST_SECONDS = 0.5
# Back-off in seconds: the first wait, which doubles, and the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
# Attempts to connect to a server that never replied so far.
_FIRST_CONNECTIONS = 3
_POLL_SECONDS = 0.2
_OPTIONS_NOT_TAKEN = ("support", "unexpected", "unrecognized", "unrecognised", "unknown", "extra", "not permitted")
_SCHEMA_WORDS = ("response_format", "json_schema", "structured output", "guided")

UNUSABLE = "the language model's reply cannot be used"


@dataclass
class ChatClient:
    """Asks a model; identical requests share one reply. To be used from one event loop."""

    settings: ChatSettings
    cache: AnswerCache
    spent: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self._server = ChatServer(self.settings)
        self.sdk = self._server.sdk
        self.spent.lost = self.cache.forget_dead_claims()
        self._slots = asyncio.Semaphore(self.settings.concurrency)
        self._in_flight: dict[str, asyncio.Task[Any]] = {}
        self._format = "text" if self.settings.reply_format == "text" else "json"
        self._options: dict[str, Any] = {"temperature": 0, "max_completion_tokens": self.settings.reply_tokens}
        self._failures = 0
        self._replied = False
        self._stopped: ServiceError | None = None

    async def ask(self, request: ChatRequest) -> Any:
        """Return what a request's reply says: from the cache, from an identical request under way, or from the server.

        A reply that cannot be read is asked for once more, with the format repeated. If that one cannot be read either,
        both are kept in the cache's table ``unusable``, and the next run asks again.

        Raises:
            RequestError: no usable reply to this request.
            ServiceError: none to any other either, or the budget is spent.
        """
        if in_flight := self._in_flight.get(request.key):
            return await asyncio.shield(in_flight)
        known = self.cache.get(request.key)
        unread: tuple[Reply, str] | None = None
        if known:
            try:
                content = request.read(known)
            except ValueError as problem:
                # As a batch left it, which reads no replies.
                unread = known, str(problem)
            else:
                self.spent.cached += 1
                return content
        task = self._in_flight[request.key] = asyncio.create_task(self._answer(request, unread))
        task.add_done_callback(lambda _: self._in_flight.pop(request.key, None))
        # Who asked may be cancelled; what is paid for is still read and kept.
        return await asyncio.shield(task)

    def body(self, request: ChatRequest, earlier: tuple[Reply, str] | None = None) -> dict[str, Any]:
        """Build a request's body, without options that the server has rejected.

        Args:
            earlier: a reply that could not be used, and why; the request then asks for the format again.
        """
        messages = request.messages(self._format)
        if earlier:
            reply, problem = earlier
            again = f"That reply could not be used ({problem}). {request.reminder(self._format)}"
            messages = [*messages, {"role": "assistant", "content": reply.text}, {"role": "user", "content": again}]
        body = {"model": self.settings.model, "messages": messages, **self._options}
        if self._format == "json":
            schema = {"name": "reply", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    async def close(self) -> None:
        """Close the connections: requests under way, which are paid for, get half a second; others are not sent."""
        self._stopped = self._stopped or ServiceError("the client was closed")
        if in_flight := set(self._in_flight.values()):
            _, late = await asyncio.wait(in_flight, timeout=_LAST_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)
        await self._server.close()

    async def _answer(self, request: ChatRequest, earlier: tuple[Reply, str] | None) -> Any:
        """Get an answer that is not in the cache; ``earlier`` is a reply there that cannot be used, and why."""
        if self.settings.cached_only:
            if earlier:
                raise self._given_up(request, *earlier)
            raise ServiceError(
                "the batches left requests unanswered: run it again, or without --batch-api to ask the rest directly"
            )
        await self._claim(request)
        try:
            # Another process may have had it claimed and got a reply.
            known = self.cache.get(request.key)
            if known and (earlier is None or known != earlier[0]):
                return request.read(known)
            return await self._ask_twice(request, earlier)
        finally:
            self.cache.release(request.key)

    async def _claim(self, request: ChatRequest) -> None:
        longest = self.settings.timeout * (self.settings.retries + 1) + 600
        while not self.cache.claim(request.key, longest):
            if self._stopped:
                raise self._stopped
            await asyncio.sleep(_POLL_SECONDS)

    async def _ask_twice(self, request: ChatRequest, earlier: tuple[Reply, str] | None) -> Any:
        """Ask, and once more if the reply cannot be read."""
        for _ in range(1 if earlier else 2):
            if earlier:
                self._reject(request, *earlier)
            reply = await self._send(request, earlier)
            try:
                content = request.read(reply)
            except ValueError as problem:
                earlier = reply, str(problem)
                continue
            self.cache.put(request.key, reply, model=self.settings.model, prompt=request.prompt, question=request.asked)
            return content
        assert earlier is not None
        raise self._given_up(request, *earlier)

    def _given_up(self, request: ChatRequest, reply: Reply, problem: str) -> RequestError:
        self._reject(request, reply, problem)
        self.spent.failed += 1
        return RequestError(UNUSABLE, problem)

    def _reject(self, request: ChatRequest, reply: Reply, problem: str) -> None:
        names = {"model": self.settings.model, "prompt": request.prompt, "question": request.asked}
        self.cache.reject(request.key, reply, problem, **names)

    async def _send(self, request: ChatRequest, earlier: tuple[Reply, str] | None = None) -> Reply:
        """Send a request within the limit of requests at a time."""
        async with self._slots:
            try:
                reply = await self._attempts(request, earlier)
            except RequestError as error:
                self.spent.failed += 1
                self._failures += 1
                if self._failures < max(_FAILURES_IN_A_ROW, self.settings.concurrency):
                    raise
                self._stopped = self._stopped or ServiceError(
                    f"{self._failures} requests in a row failed; the last: {error}"
                )
                raise self._stopped from error
            except ServiceError as error:
                self._stopped = self._stopped or error
                raise
            self._failures, self._replied = 0, True
            return reply

    async def _attempts(self, request: ChatRequest, earlier: tuple[Reply, str] | None) -> Reply:
        """Send a request until it is answered, adapted to what the server does not take."""
        failed = 0
        while True:
            if self._stopped:
                raise self._stopped
            self.spent.check(self.settings)
            self.spent.requests += 1
            self.cache.mark_sent(request.key)
            format, options, body = self._format, dict(self._options), self.body(request, earlier)
            try:
                reply = await self._server.complete(body, format)
            except RejectedError as error:
                if not self._adapt(error.detail, format, options):
                    raise
                continue
            except TransientError as error:
                if error.paid:
                    self._count(estimated_tokens(body["messages"]))
                failed += 1
                if error.refused and not self._replied and failed >= _FIRST_CONNECTIONS:
                    raise ServiceError(f"no connection to the server at {error.detail}: is it running?") from error
                if failed > self.settings.retries:
                    raise RequestError(error.reason, error.detail) from error
                wait = min(FIRST_WAIT * 2 ** (failed - 1), LONGEST_WAIT) * random.uniform(0.75, 1.0)
                await asyncio.sleep(wait if error.retry_after is None else error.retry_after)
                continue
            prompt, completion = estimated_tokens(body["messages"])
            self._count((reply.prompt_tokens or prompt, reply.completion_tokens or completion))
            return reply

    def _count(self, tokens: tuple[int, int]) -> None:
        self.spent.prompt_tokens += tokens[0]
        self.spent.completion_tokens += tokens[1]

    def _adapt(self, complaint: str, format: str, sent: dict[str, Any]) -> bool:
        """Leave out what the server complains of; False if that is nothing we could leave out."""
        lower = complaint.lower()
        if not any(word in lower for word in _OPTIONS_NOT_TAKEN):
            return False
        if format == "json" and self.settings.reply_format == "auto" and any(w in lower for w in _SCHEMA_WORDS):
            self._format = "text"
            return True
        for name in sent:
            if name in complaint:
                self._options.pop(name, None)
                if name == "max_completion_tokens":
                    self._options["max_tokens"] = self.settings.reply_tokens
                return True
        return False
