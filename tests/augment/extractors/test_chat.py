import json
import sqlite3

import pytest
from extractions import reasons, turns, words
from scripted_server import Answer

from fivl_hf.augment.extractors.chat import estimate
from fivl_hf.llm.settings import RequestError

UNUSABLE = [
    (Answer("red car, dog"), "the reply is not valid JSON"),
    (Answer('{"expressions": ["number0"', finish="length"), "the reply is cut off"),
    (Answer(""), "the reply is empty"),
    (Answer(None), "the reply is empty"),
    (Answer(None, refusal="I cannot"), "the model refused"),
    (Answer("x", finish="content_filter"), "the model refused"),
    (Answer('{"words": []}'), "the reply is JSON, but not a list of expressions"),
]


@pytest.mark.parametrize(("answer", "reason"), UNUSABLE)
def test_an_unusable_reply_is_asked_again_once_and_kept_for_inspection(serve, extract, cache, answer, reason):
    server = serve(lambda body, number: answer)
    with pytest.raises(RequestError, match=f"reply cannot be used: {reason}"):
        extract(server, turns(1))
    first, second = server.bodies
    assert second["messages"][:2] == first["messages"]
    assert second["messages"][2] == {"role": "assistant", "content": answer.text or ""}
    assert reason in second["messages"][3]["content"]
    assert "Reply with JSON only" in second["messages"][3]["content"]
    kept = sqlite3.connect(cache.path).execute("SELECT problem, reply FROM unusable").fetchall()
    assert [problem for problem, _ in kept] == [reason, reason]
    assert json.loads(kept[0][1])["text"] == (answer.text or "")
    # The next run asks again.
    server.answer = lambda body, number: Answer('{"expressions": ["number0"]}')
    found, spent = extract(server, turns(1))
    assert (words(found[0]), spent.requests, spent.cached) == (["number0"], 1, 0)


def test_a_model_that_understands_the_reminder_is_believed(serve, extract):
    good = Answer('{"expressions": ["number0"]}')
    server = serve(lambda body, number: good if len(body["messages"]) > 2 else Answer("number0, I think"))
    found, spent = extract(server, turns(1))
    assert (words(found[0]), spent.requests, spent.failed) == (["number0"], 2, 0)
    assert extract(server, turns(1))[1].cached == 1


def test_an_expression_that_is_not_in_the_answer_makes_no_reply_unusable(serve, extract):
    server = serve(lambda body, number: Answer('{"expressions": ["a zebra"]}'))
    found, spent = extract(server, turns(1))
    assert reasons(found[0]) == ["not in the answer"]
    assert spent.requests == 1


def test_the_dry_run_counts_without_asking(serve, settings, cache, extract):
    server = serve()
    extract(server, turns(3))
    found = estimate(turns(10), settings(server), cache)
    assert (found.requests, found.cached) == (7, 3)
    assert 7 * 200 < found.prompt_tokens < 7 * 600
    assert sum(server.asked.values()) == 3
