import argparse

import pytest

from fivl_hf.cli.chat_options import add_chat, chat_settings, usage_line
from fivl_hf.llm.settings import ChatSettings, Usage


def settings_of(*arguments):
    parser = argparse.ArgumentParser()
    add_chat(parser, concurrency=7)
    return chat_settings(parser.parse_args(arguments))


def test_options_become_the_settings_of_their_names():
    assert settings_of("--model", "m").concurrency == 7
    assert settings_of(
        *("--model", "m", "--base-url", "http://localhost:1/v1", "--max-requests", "5", "--reply-format", "text"),
        *("--max-cost", "2.5", "--input-price", "1", "--output-price", "4"),
    ) == ChatSettings(
        model="m",
        base_url="http://localhost:1/v1",
        concurrency=7,
        timeout=120.0,
        retries=6,
        max_requests=5,
        max_cost=2.5,
        input_price=1.0,
        output_price=4.0,
        reply_format="text",
    )
    with pytest.raises(ValueError, match="name the language model with --model"):
        settings_of()


def test_the_cost_is_said_where_prices_are_known():
    spent = Usage(requests=12, failed=1, cached=3, prompt_tokens=1_000_000, completion_tokens=500_000, lost=2)
    assert usage_line(spent, ChatSettings("m", input_price=1.0, output_price=4.0)) == (
        "12 requests (1 failed), 1,000,000 + 500,000 tokens, 3.00 US dollars; 3 answers from the cache; "
        "2 under way when a run was killed, perhaps paid twice"
    )
    assert "dollars" not in usage_line(spent, ChatSettings("m"))
