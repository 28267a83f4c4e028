"""Key expressions by a language model."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fivl_hf.augment.expressions import Extraction, ProtocolName, check_expressions
from fivl_hf.augment.extractors.prompts import (
    EXPRESSIONS_SCHEMA,
    EXPRESSIONS_VERSION,
    expression_messages,
    format_reminder,
    parse_expressions,
)
from fivl_hf.files.disk_table import DiskTable
from fivl_hf.llm.answers import AnswerCache, Reply, answer_key
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.server import clean_text
from fivl_hf.llm.settings import ChatRequest, ChatSettings, estimated_tokens
from fivl_hf.schema import Turn

__all__ = ["ChatExtractor", "Estimate", "estimate", "expression_request"]

# Far more than an answer has; each is looked for in the whole answer.
_MOST_EXPRESSIONS = 500


class ChatExtractor:
    """Asks a chat model for the key expressions of every turn, and checks what it names.

    From ordinary code, use :meth:`extract` inside ``with ChatExtractor(client) as extractor``; from an event loop,
    :meth:`extract_turn`.
    """

    def __init__(self, client: ChatClient, protocol: ProtocolName = "default") -> None:
        self.client, self.protocol = client, protocol
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> "ChatExtractor":
        return self

    def __exit__(self, *error: object) -> None:
        if self._loop:
            self._loop.run_until_complete(self.client.close())
            self._loop.close()

    def extract(self, turns: Sequence[Turn]) -> list[Extraction]:
        """Return extractions of many turns, asked for at the same time.

        Raises:
            RequestError, ServiceError: see :meth:`fivl_hf.llm.client.ChatClient.ask`.
        """

        async def all_turns() -> list[Extraction]:
            return await asyncio.gather(*(self.extract_turn(turn) for turn in turns))

        self._loop = self._loop or asyncio.new_event_loop()
        return self._loop.run_until_complete(all_turns())

    async def extract_turn(self, turn: Turn) -> Extraction:
        """Return one turn's extraction, from the event loop that the client belongs to. Raises as :meth:`extract`."""
        found: Extraction = await self.client.ask(expression_request(turn, self.client.settings.model, self.protocol))
        return found


def expression_request(turn: Turn, model: str, protocol: ProtocolName = "default") -> ChatRequest:
    """Return the request for a turn's expressions; its key is the hash of model, prompt version, question and answer.

    Args:
        protocol: by whose rules the reply is sorted; the reply itself, and so the key, does not depend on it.
    """
    return ChatRequest(
        key=answer_key(model, EXPRESSIONS_VERSION, turn.question, turn.answer),
        prompt=EXPRESSIONS_VERSION,
        messages=lambda format: expression_messages(turn, format),
        schema=EXPRESSIONS_SCHEMA,
        read=partial(_read, turn, protocol),
        reminder=format_reminder,
        asked={"question": turn.question, "answer": turn.answer},
    )


def _read(turn: Turn, protocol: ProtocolName, reply: Reply) -> Extraction:
    """Return the expressions in a reply; raises ValueError for one that is refused, cut off, empty or malformed."""
    if reply.problem:
        raise ValueError(reply.problem)
    proposed = parse_expressions(reply.text, reply.format)
    if len(proposed) > _MOST_EXPRESSIONS:
        raise ValueError(f"the reply lists {len(proposed):,} expressions")
    # What is rejected is shown in reports: as untrusted text.
    extraction = check_expressions(proposed, turn, protocol)
    rejected = tuple(replace(item, text=clean_text(item.text)) for item in extraction.rejected)
    extraction = replace(extraction, rejected=rejected)
    # Plain text has no syntax that prose could break: that it names nothing of the answer gives it away.
    if reply.format == "text" and extraction.rejected and not extraction.mentions:
        raise ValueError("the reply lists no words of the answer")
    return extraction


@dataclass
class Estimate:
    """The cost of asking, estimated.

    Attributes:
        requests: to pay for; turns with the same question and answer share one.
        cached: turns answered already.
        prompt_tokens, completion_tokens: of the requests, by a rule of thumb.
    """

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def estimate(turns: Iterable[Turn], settings: ChatSettings, cache: AnswerCache) -> Estimate:
    """Count what a run over these turns would ask, without asking."""
    found = Estimate()
    format = "text" if settings.reply_format == "text" else "json"
    asked = DiskTable()
    for turn in turns:
        request = expression_request(turn, settings.model)
        if request.key in cache:
            found.cached += 1
            continue
        if request.key in asked:
            continue
        asked.put(request.key)
        found.requests += 1
        prompt, completion = estimated_tokens(request.messages(format))
        found.prompt_tokens += prompt
        found.completion_tokens += completion
    return found
