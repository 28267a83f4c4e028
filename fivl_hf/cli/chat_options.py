"""The options of the commands that ask a language model."""

import argparse
from typing import Any

from fivl_hf.cli.options import count, positive, positive_number
from fivl_hf.llm.settings import ChatSettings, Usage

__all__ = ["add_budget", "add_chat", "chat_settings", "usage_line"]


def add_chat(parser: argparse.ArgumentParser, concurrency: int) -> None:
    """Add the options for the model, its server and the budget."""
    group = parser.add_argument_group("language model (OpenAI-compatible; the key comes from OPENAI_API_KEY)")
    group.add_argument("--model", default=None, help="name of the model at the server, such as gpt-4o")
    group.add_argument("--base-url", default=None, help="of the server, such as http://localhost:8000/v1 (vLLM)")
    add_budget(group, concurrency)
    group.add_argument(
        "--reply-format",
        choices=("auto", "json", "text"),
        default="auto",
        help="structured output, the paper's ':::' text, or structured output unless the server rejects it",
    )


def add_budget(group: Any, concurrency: int) -> None:
    """Add the options for requests at a time, retries and the budget."""
    group.add_argument("--concurrency", type=positive, default=concurrency, help="requests at a time")
    group.add_argument("--timeout", type=positive_number, default=120.0, help="seconds for one request")
    group.add_argument("--retries", type=count, default=6, help="of a request that fails; Retry-After is honoured")
    group.add_argument("--max-requests", type=positive, default=None, help="largest number of paid requests")
    group.add_argument("--max-tokens", type=positive, default=None, help="largest number of paid tokens")
    group.add_argument("--max-cost", type=float, default=None, help="largest cost in US dollars (needs the prices)")
    group.add_argument("--input-price", type=float, default=None, help="US dollars per million prompt tokens")
    group.add_argument("--output-price", type=float, default=None, help="US dollars per million reply tokens")


def chat_settings(options: argparse.Namespace, **fields: Any) -> ChatSettings:
    """Make settings of the options, and of fields that have other names there.

    Raises:
        ValueError: no model, or an address that is none.
    """
    if not options.model:
        raise ValueError("name the language model with --model")
    settings = {**{name: value for name, value in vars(options).items() if name in _NAMES}, **fields}
    url = settings.get("base_url")
    if url is not None and not url.startswith(("http://", "https://")):
        raise ValueError(f"the server's address must begin with http:// or https://, got {url!r}")
    return ChatSettings(**settings)


_NAMES = set(ChatSettings.__dataclass_fields__)


def usage_line(spent: Usage, settings: ChatSettings) -> str:
    """Return what asking cost, in one line."""
    cost = settings.cost(spent.prompt_tokens, spent.completion_tokens)
    price = "" if cost is None else f", {cost:.2f} US dollars"
    lost = f"; {spent.lost:,} under way when a run was killed, perhaps paid twice" if spent.lost else ""
    return (
        f"{spent.requests:,} requests ({spent.failed:,} failed), {spent.prompt_tokens:,} + "
        f"{spent.completion_tokens:,} tokens{price}; {spent.cached:,} answers from the cache{lost}"
    )
