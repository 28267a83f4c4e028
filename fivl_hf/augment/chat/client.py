"""A client for OpenAI-compatible servers: many requests at a time, retried, cached, within a budget."""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fivl_hf.augment.chat.answers import AnswerCache, Reply

__all__ = [
    "ChatClient",
    "ChatRequest",
    "ChatSettings",
    "RequestError",
    "ServiceError",
    "Spent",
    "estimated_tokens",
    "read_completion",
]

_FORMATS = ("auto", "json", "text")
_MILLION = 1_000_000
_CHARACTERS_PER_TOKEN = 4
_EXPECTED_REPLY_TOKENS = 40
# So many samples in a row without one reply mean that the server is gone, not that the samples are odd.
_FAILURES_IN_A_ROW = 20
# For requests in flight, when nobody waits for the others any more.
_LAST_SECONDS = 10.0
_NOT_TAKEN = re.compile(
    r"unsupported|not (?:\w+ )?support|unexpected|unrecogni[sz]ed|unknown|extra|not permitted", re.I
)


class RequestError(Exception):
    """One request got no reply, also after retries; the next may."""


class ServiceError(ValueError):
    """No further request makes sense: wrong key, unknown model, budget spent, server gone."""


@dataclass(frozen=True)
class ChatSettings:
    """Which model to ask, where, and how much.

    Attributes:
        model: name at the server.
        base_url: of any OpenAI-compatible server; OpenAI's (or ``OPENAI_BASE_URL``) if None.
        concurrency: requests at a time.
        timeout: seconds for one request.
        retries: of a request that fails (429, 5xx, time-out, broken connection), with back-off; a server's Retry-After
            (up to two minutes) is honoured.
        max_requests, max_tokens, max_cost: budget of this run; None for none. Retries are not counted, and requests
            already in flight when tokens or cost are spent are still paid.
        input_price, output_price: US dollars per million tokens.
        reply_format: "json" (structured output), "text" (expressions separated by ``:::``), or "auto": structured
            output unless the server rejects it.
        reply_tokens: the longest reply.
        cached_only: do not ask; for what is not in the cache, the service has stopped.
    """

    model: str
    base_url: str | None = None
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 6
    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    input_price: float | None = None
    output_price: float | None = None
    reply_format: str = "auto"
    reply_tokens: int = 512
    cached_only: bool = False

    def __post_init__(self) -> None:
        if self.reply_format not in _FORMATS:
            raise ValueError(f"reply_format must be one of {_FORMATS}, got {self.reply_format!r}")
        if self.max_cost is not None and (self.input_price is None or self.output_price is None):
            raise ValueError("a cost budget needs the prices: --input-price and --output-price, per million tokens")

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float | None:
        """US dollars, if the prices are known."""
        if self.input_price is None or self.output_price is None:
            return None
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / _MILLION


@dataclass(frozen=True)
class ChatRequest:
    """What to ask.

    Attributes:
        key: hash of everything that decides the reply, see :func:`fivl_hf.augment.chat.answers.answer_key`.
        prompt: version of the prompt's text.
        messages: the chat messages for a reply format, "json" or "text".
        schema: JSON schema of the reply.
        asked: for people who look into the cache.
    """

    key: str
    prompt: str
    messages: Callable[[str], list[dict[str, Any]]]
    schema: dict[str, Any]
    asked: Any = None


@dataclass
class Spent:
    """What this run used: paid requests and their tokens, replies found in the cache, requests that failed."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: int = 0
    failed: int = 0


def _open_sdk(settings: ChatSettings) -> Any:
    """The SDK's asynchronous client for these settings."""
    try:
        import openai
    except ImportError as error:
        raise ImportError("asking a language model needs `pip install fivl-hf[augment]`") from error
    key = os.environ.get("OPENAI_API_KEY")
    base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL")
    if not key and not base_url:
        raise ServiceError("set OPENAI_API_KEY, or name another server with --base-url")
    return openai.AsyncOpenAI(
        # Local servers want no key, but the SDK wants one to send.
        api_key=key or "none",
        base_url=base_url,
        timeout=settings.timeout,
        max_retries=settings.retries,
    )


@dataclass
class ChatClient:
    """Asks a model; identical requests share one reply. To be used from one event loop."""

    settings: ChatSettings
    cache: AnswerCache
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        self.sdk = _open_sdk(self.settings)
        self._slots = asyncio.Semaphore(self.settings.concurrency)
        self._flying: dict[str, asyncio.Task[Reply]] = {}
        self._format = "text" if self.settings.reply_format == "text" else "json"
        self._options: dict[str, Any] = {"temperature": 0, "max_completion_tokens": self.settings.reply_tokens}
        self._failures = 0
        self._stopped: ServiceError | None = None

    async def ask(self, request: ChatRequest) -> Reply:
        """The reply to a request: from the cache, from an identical request in flight, or from the server.

        Raises:
            RequestError: no reply to this one after all retries.
            ServiceError: none to any other either, or the budget is spent.
        """
        if flying := self._flying.get(request.key):
            return await asyncio.shield(flying)
        if known := self.cache.get(request.key):
            self.spent.cached += 1
            return known
        task = self._flying[request.key] = asyncio.create_task(self._paid(request))
        task.add_done_callback(lambda _: self._flying.pop(request.key, None))
        # Who asked may be cancelled; what is paid for is still read and kept.
        return await asyncio.shield(task)

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """A request as this server takes it, as far as earlier requests have shown."""
        body = {"model": self.settings.model, "messages": request.messages(self._format), **self._options}
        if self._format == "json":
            schema = {"name": "reply", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    async def close(self) -> None:
        """Close the connections: requests in flight, which are paid for, get a few seconds; others are not sent."""
        self._stopped = self._stopped or ServiceError("the client was closed")
        if flying := set(self._flying.values()):
            _, late = await asyncio.wait(flying, timeout=_LAST_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)
        await self.sdk.close()

    async def _paid(self, request: ChatRequest) -> Reply:
        if self.settings.cached_only:
            raise ServiceError(
                "the batches left requests unanswered: run it again, or without --batch-api to ask the rest directly"
            )
        async with self._slots:
            self._check_budget()
            self.spent.requests += 1
            try:
                reply = await self._send(request)
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
                self._stopped = error
                raise
            self._failures = 0
            self.spent.prompt_tokens += reply.prompt_tokens
            self.spent.completion_tokens += reply.completion_tokens
            self.cache.put(request.key, reply, model=self.settings.model, prompt=request.prompt, asked=request.asked)
            return reply

    def _check_budget(self) -> None:
        if self._stopped:
            raise self._stopped
        limits, spent = self.settings, self.spent
        tokens = spent.prompt_tokens + spent.completion_tokens
        cost = limits.cost(spent.prompt_tokens, spent.completion_tokens)
        for name, limit, used in (
            ("requests", limits.max_requests, spent.requests),
            ("tokens", limits.max_tokens, tokens),
            ("US dollars", limits.max_cost, cost),
        ):
            if limit is not None and used is not None and used >= limit:
                self._stopped = ServiceError(f"the budget of {limit:,} {name} is spent; run it again to go on")
                raise self._stopped

    async def _send(self, request: ChatRequest) -> Reply:
        """One request, adapted to what the server does not take."""
        import openai

        while True:
            format, options = self._format, dict(self._options)
            try:
                completion = await self.sdk.chat.completions.create(**self.body(request))
                known = hasattr(completion, "model_dump")
                return read_completion(completion.model_dump(warnings=False) if known else completion, format)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._adapt(str(error), format, options):
                    raise RequestError(f"the server rejects the request: {_short(error)}") from error
            except openai.AuthenticationError as error:
                raise ServiceError(f"the server does not accept the API key: {_short(error)}") from error
            except (openai.PermissionDeniedError, openai.NotFoundError) as error:
                name = self.settings.model
                raise ServiceError(f"the server has no model {name!r} for this key: {_short(error)}") from error
            except openai.RateLimitError as error:
                if error.code == "insufficient_quota":
                    raise ServiceError(f"the account has no credit left: {_short(error)}") from error
                raise RequestError(f"refused after {self.settings.retries} retries: {_short(error)}") from error
            except openai.APITimeoutError as error:
                raise RequestError(f"no reply within {self.settings.timeout:g} s, retried") from error
            except openai.APIConnectionError as error:
                raise RequestError(f"no connection to the server: {error.__cause__ or error}") from error
            except (openai.APIError, ValueError) as error:
                raise RequestError(f"no usable reply: {_short(error)}") from error

    def _adapt(self, complaint: str, format: str, sent: dict[str, Any]) -> bool:
        """Leave out what the server complains of; False if that is nothing we could leave out."""
        if not _NOT_TAKEN.search(complaint):
            return False
        schema_words = ("response_format", "json_schema", "structured output", "guided")
        if format == "json" and self.settings.reply_format == "auto" and any(w in complaint for w in schema_words):
            self._format = "text"
            return True
        for name in sent:
            if name in complaint:
                self._options.pop(name, None)
                if name == "max_completion_tokens":
                    self._options["max_tokens"] = self.settings.reply_tokens
                return True
        return False


def estimated_tokens(messages: list[dict[str, Any]]) -> tuple[int, int]:
    """Tokens of a request of plain texts and of its reply, by a rule of thumb for English."""
    return sum(len(message["content"]) for message in messages) // _CHARACTERS_PER_TOKEN, _EXPECTED_REPLY_TOKENS


def read_completion(completion: Any, format: str) -> Reply:
    """A reply from a chat completion's JSON.

    Raises:
        ValueError: it is no chat completion.
    """
    try:
        choice = completion["choices"][0]
        message, usage = choice["message"], completion.get("usage") or {}
        content = message.get("content") or ""
        if not isinstance(content, str):
            raise TypeError("the content is no text")
        return Reply(
            text=content,
            format=format,
            finish=str(choice.get("finish_reason") or "stop"),
            refusal=str(message["refusal"]) if message.get("refusal") else None,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion: {str(completion)[:200]}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
