"""The language model, its server, and the budget."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fivl_hf.llm.answers import Reply

__all__ = ["ChatRequest", "ChatSettings", "RequestError", "ServiceError", "Usage", "estimated_tokens"]

_FORMATS = ("auto", "json", "text")
_MILLION = 1_000_000
_CHARACTERS_PER_TOKEN = 4
_EXPECTED_REPLY_TOKENS = 40


class RequestError(Exception):
    """One request got no usable reply, also after retries; the next may.

    Attributes:
        reason: one of a few, so that they can be counted.
        detail: what the server said.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class ServiceError(ValueError):
    """No further request makes sense: wrong key, unknown model, budget spent, server gone."""


@dataclass(frozen=True)
class ChatSettings:
    """A language model and a budget.

    Attributes:
        model: name at the server.
        base_url: of any OpenAI-compatible server; OpenAI's (or ``OPENAI_BASE_URL``) if None.
        concurrency: requests at a time.
        timeout: seconds for one attempt, from its first byte to the last of the reply.
        retries: of a request that fails (429, 5xx, time-out, broken connection), with back-off; a server's Retry-After
            (up to two minutes) is honoured.
        max_requests, max_tokens, max_cost: budget of this run; None for none. Every attempt counts as a request, and
            one that may have been answered (a time-out, a broken connection) by its estimated tokens. Requests already
            under way when tokens or cost are spent are still paid.
        input_price, output_price: US dollars per million tokens.
        reply_format: "json" (structured output), "text" (plain text, in a format that the prompt describes), or "auto":
            structured output unless the server rejects it.
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
        """Return the cost in US dollars, None if the prices are not known."""
        if self.input_price is None or self.output_price is None:
            return None
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / _MILLION


@dataclass(frozen=True)
class ChatRequest:
    """A question for a model, and how its reply is read.

    Attributes:
        key: hash of everything that decides the reply, see :func:`fivl_hf.llm.answers.answer_key`.
        prompt: version of the prompt's text.
        messages: the chat messages for a reply format, "json" or "text".
        schema: JSON schema of the reply.
        read: takes the reply and returns its content; raises ValueError, saying why, for one that cannot be used.
        reminder: the sentence that asks for the reply format again, "json" or "text".
        asked: for people who look into the cache.
    """

    key: str
    prompt: str
    messages: Callable[[str], list[dict[str, Any]]]
    schema: dict[str, Any]
    read: Callable[[Reply], Any]
    reminder: Callable[[str], str]
    asked: Any = None


@dataclass
class Usage:
    """The requests of a run.

    Attributes:
        requests: attempts sent to the server.
        prompt_tokens, completion_tokens: of all attempts.
        cached: replies found in the cache.
        failed: requests without a usable reply.
        lost: requests under way when an earlier run with this cache was killed, which may have been paid for twice.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: int = 0
    failed: int = 0
    lost: int = 0

    def check(self, budget: ChatSettings) -> None:
        """Check that the budget is not spent; raises ServiceError if it is."""
        cost = budget.cost(self.prompt_tokens, self.completion_tokens)
        for name, limit, used in (
            ("requests", budget.max_requests, self.requests),
            ("tokens", budget.max_tokens, self.prompt_tokens + self.completion_tokens),
            ("US dollars", budget.max_cost, cost),
        ):
            if limit is not None and used is not None and used >= limit:
                raise ServiceError(f"the budget of {limit:,} {name} is spent; run it again to resume")


def estimated_tokens(messages: list[dict[str, Any]]) -> tuple[int, int]:
    """Return the tokens of a request's texts and of its reply, by a rule of thumb for English."""
    texts = [
        block if isinstance(block, str) else block.get("text", "")
        for message in messages
        for block in ([message["content"]] if isinstance(message["content"], str) else message["content"])
    ]
    return sum(map(len, texts)) // _CHARACTERS_PER_TOKEN, _EXPECTED_REPLY_TOKENS
