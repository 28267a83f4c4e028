"""Items asked about many at a time; the endpoint's answerer and the judge show the rest."""

import pytest
from scripted_server import Answer

from fivl_hf.llm.answers import answer_key
from fivl_hf.llm.many import ManyRequests
from fivl_hf.llm.settings import ChatRequest, ServiceError


def request_of(item):
    return ChatRequest(
        key=answer_key("m", item),
        prompt="test",
        messages=lambda _: [{"role": "user", "content": item}],
        schema={},
        read=lambda reply: reply.text,
        reminder=lambda _: "",
    )


def test_every_item_gets_its_answer_and_none_is_asked_twice(serve, settings, tmp_path):
    server = serve(lambda body, number: Answer(body["messages"][0]["content"].upper(), delay=0.02))
    many = ManyRequests(settings(server, concurrency=8, reply_format="text"), tmp_path / "a.sqlite")
    items = [f"item {i % 20}" for i in range(40)]
    found = list(many.answers(items, request_of))
    assert sorted(item for item, _, _ in found) == sorted(items)
    assert all(text == item.upper() for item, text, _ in found)
    assert (many.spent.requests, many.failures) == (20, {})
    assert 1 < server.most_open <= 8
    assert all(latency is None for _, _, latency in many.answers(items, request_of))


def test_failures_are_counted_and_an_error_of_the_caller_is_raised(serve, settings, tmp_path):
    server = serve(
        lambda body, number: Answer(status=400 if "bad" in body["messages"][0]["content"] else 200, text="x")
    )
    told = []
    many = ManyRequests(
        settings(server, concurrency=2, reply_format="text"),
        tmp_path / "a.sqlite",
        on_failure=lambda *each: told.append(each),
    )
    # In any order, as two are asked at a time.
    assert {item for item, _, _ in many.answers(["good", "bad", "fine"], request_of)} == {"good", "fine"}
    assert told == [("bad", "the server rejects the request")]
    assert many.failures == {"the server rejects the request": 1}

    def broken(item):
        raise OSError("the image is gone")

    with pytest.raises(OSError, match="the image is gone"):
        list(many.answers(["new"], broken))
    locked = ManyRequests(settings(serve(lambda body, number: Answer(status=401))), tmp_path / "b.sqlite")
    with pytest.raises(ServiceError, match="API key"):
        list(locked.answers(["new"], request_of))
