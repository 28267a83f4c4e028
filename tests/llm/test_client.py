"""The client and extractor against a scripted OpenAI-compatible server: the good and the bad cases."""

import asyncio
import json

import pytest
from extractions import turns, words
from scripted_server import Answer, asked_answer

from fivl_hf.augment.extractors.chat import ChatExtractor
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.settings import ChatSettings, RequestError, ServiceError


def test_answers_belong_to_their_questions_whatever_the_order(serve, extract):
    def late_first(body, number):
        index = int(asked_answer(body).removeprefix("This is number").removesuffix("."))
        return Answer(f'{{"expressions": ["number{index}"]}}', delay=0.2 - 0.01 * index)

    found, spent = extract(serve(late_first), turns(20), concurrency=20)
    assert [words(each) for each in found] == [[f"number{i}"] for i in range(20)]
    assert (spent.requests, spent.prompt_tokens, spent.completion_tokens) == (20, 2000, 200)


@pytest.mark.parametrize(
    "bad",
    [
        Answer(status=500, body=b'{"error": {"message": "oops"}}'),
        Answer(status=503, body=b"<html>busy</html>"),
        Answer(status=429, body=b'{"error": {"message": "slow down"}}'),
        Answer(cut=True),
        Answer("late", delay=0.6),
    ],
    ids=["500", "503", "429", "cut connection", "time-out"],
)
def test_passing_troubles_are_retried(serve, extract, bad):
    server = serve(lambda body, number: bad if number < 2 else Answer('{"expressions": ["number0"]}'))
    found, spent = extract(server, turns(1), timeout=0.3)
    assert words(found[0]) == ["number0"]
    assert set(server.asked.values()) == {3}
    assert spent.failed == 0


def test_retry_after_is_honoured(serve, extract):
    limited = Answer(status=429, headers={"Retry-After": "1"}, body=b'{"error": {"message": "slow down"}}')
    server = serve(lambda body, number: limited if number == 0 else Answer('{"expressions": ["number0"]}'))
    extract(server, turns(1))
    assert server.times[1] - server.times[0] >= 1.0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(status=500, body=b"{}"), "the server failed: .*500"),
        (Answer(cut=True), "no connection to the server"),
        (Answer(body=b'{"choices": [{"mess'), "is not a chat completion"),
        (Answer(body=b'{"object": "chat.completion", "choices": []}'), "not a chat completion"),
        (Answer(body=b'"just a string"'), "not a chat completion"),
        (Answer(body=b"[" * 30_000), "nested too deeply"),
        (
            Answer(body=json.dumps({"choices": [{"message": {"content": ["a", "list"]}}]}).encode()),
            "not a chat completion",
        ),
        (Answer(status=400, body=b'{"error": {"message": "too long"}}'), "rejects the request: .*too long"),
        (Answer("x" * 3_000_000), "a reply of more than 2,000,000 bytes"),
        (Answer("x", headers={"Content-Encoding": "gzip"}), "a reply compressed by 'gzip'"),
    ],
)
def test_a_request_that_stays_unanswered_fails_alone(serve, extract, answer, message):
    with pytest.raises(RequestError, match=message):
        extract(serve(lambda body, number: answer), turns(1), retries=1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(status=401, body=b'{"error": {"message": "bad key"}}'), "does not accept the API key"),
        (Answer(status=404, body=b'{"error": {"message": "no such model"}}'), "has no model 'm'"),
        (
            Answer(status=429, body=b'{"error": {"message": "pay", "code": "insufficient_quota"}}'),
            "no credit left",
        ),
    ],
)
def test_troubles_that_stay_stop_everything(serve, extract, answer, message):
    server = serve(lambda body, number: answer)
    with pytest.raises(ServiceError, match=message):
        extract(server, turns(50), concurrency=1, retries=0)
    assert len(server.asked) == 1


def gather(client, asked):
    """What each of many turns asked at the same time gives, or raises."""

    async def all_of_them():
        extractor = ChatExtractor(client)
        found = await asyncio.gather(*(extractor.extract_turn(turn) for turn in asked), return_exceptions=True)
        await client.close()
        return found

    return asyncio.run(all_of_them())


def test_a_server_that_goes_stops_everything(serve, settings, cache):
    server = serve()
    client = ChatClient(settings(server, retries=0, concurrency=2), cache)
    client._replied = True
    server.close()
    errors = gather(client, turns(60))
    assert [type(error) for error in errors[:19]] == [RequestError] * 19
    assert all(isinstance(error, ServiceError) for error in errors[20:])
    assert "20 requests in a row failed" in str(errors[-1])


def test_a_server_that_is_not_there_is_said_at_once(serve, extract):
    server = serve()
    server.close()
    with pytest.raises(ServiceError, match=r"no connection to the server at http://127.*is it running\?"):
        extract(server, turns(60))


@pytest.mark.parametrize(
    ("budget", "paid"),
    [
        ({"max_requests": 7}, 7),
        ({"max_tokens": 550}, 5),
        ({"max_cost": 0.001, "input_price": 2.5, "output_price": 10}, 3),
    ],
)
def test_the_budget_stops_cleanly(serve, extract, cache, budget, paid):
    """110 tokens a request; 100 · 2.5 + 10 · 10 = 350 millionths of a dollar."""
    server = serve()
    with pytest.raises(ServiceError, match="budget of .* is spent"):
        extract(server, turns(20), concurrency=1, **budget)
    assert sum(server.asked.values()) == paid == len(cache)
    with pytest.raises(ValueError, match="needs the prices"):
        ChatSettings("m", max_cost=1.0)


def test_as_many_requests_at_a_time_as_allowed(serve, extract):
    """How near the time comes to the ideal is measured in benchmarks/extraction.py."""
    server = serve(lambda body, number: Answer('{"expressions": []}', delay=0.2))
    extract(server, turns(100), concurrency=32)
    # On a busy machine the last of them may come after the first has gone.
    assert 24 <= server.most_open <= 32
