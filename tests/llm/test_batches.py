"""The Batch API of a scripted server."""

import pytest
from extractions import requests, turns, words
from scripted_server import Answer, asked_answer

from fivl_hf.llm.batches import answer_by_batches
from fivl_hf.llm.settings import RequestError, ServiceError


def test_batches_are_answered_in_any_order_and_resumed(serve, settings, cache, extract):
    server = serve()
    told = []

    def interrupt(line):
        told.append(line)
        if "looking again" in line:
            raise KeyboardInterrupt

    server.batch_status = "in_progress"
    options = {"poll_seconds": 0.01, "tell": interrupt}
    with pytest.raises(KeyboardInterrupt):
        answer_by_batches(requests(6), settings(server), cache, **options)
    assert len(server.batches) == 1
    server.batch_status = "completed"
    answer_by_batches(requests(9), settings(server), cache, **options)
    assert len(server.batches) == 2
    assert len(cache) == 9
    assert set(server.asked.values()) == {1}
    found, spent = extract(server, turns(9))
    assert (spent.requests, spent.cached) == (0, 9)
    assert [words(each) for each in found] == [[f"number{i}"] for i in range(9)]


def test_an_unusable_reply_of_a_batch_is_asked_again(serve, settings, cache, extract):
    good = Answer('{"expressions": []}')
    server = serve(lambda body, number: Answer("prose") if "number2" in asked_answer(body) else good)
    answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01, tell=str)
    assert len(cache) == 3
    with pytest.raises(RequestError, match="not valid JSON"):
        extract(server, turns(3), cached_only=True)
    assert len(cache) == 2
    server.answer = lambda body, number: good
    answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01, tell=str)
    assert extract(server, turns(3), cached_only=True)[1].cached == 3


def test_batch_results_that_are_no_answers_are_told_and_left_out(serve, settings, cache):
    good = Answer('{"expressions": []}')
    bad = Answer(status=400, body=b'{"error": {"message": "too odd"}}')
    server = serve(lambda body, number: good if asked_answer(body) == "This is number0." else bad)
    told = []
    answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01, tell=told.append)
    assert told[-1] == "batch batch-0: completed, 0 of 2 answered; 2 × too odd"
    assert len(cache) == 1


def test_line_separators_inside_a_batch_result_do_not_cut_it(serve, settings, cache):
    server = serve(lambda body, number: Answer('{"expressions": ["a\u2028b", "c\x85d"]}'))
    answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01, tell=str)
    assert len(cache) == 3


def test_batches_keep_to_the_budget(serve, settings, cache):
    server = serve()
    told = []
    limited = settings(server, max_requests=4)
    answer_by_batches(requests(10), limited, cache, poll_seconds=0.01, tell=told.append)
    assert len(cache) == sum(server.asked.values()) == 4
    assert "the budget allows 4 requests; the others are not submitted" in told


def test_batches_use_what_the_first_direct_request_showed(serve, settings, cache):
    def picky(body, number):
        if "temperature" in body:
            return Answer(status=400, body=b'{"error": {"message": "Unsupported value: temperature"}}')
        return Answer('{"expressions": []}')

    server = serve(picky)
    answer_by_batches(requests(4), settings(server), cache, poll_seconds=0.01, tell=str)
    assert len(cache) == 4
    assert "temperature" not in server.bodies[-1]


def test_a_server_that_refuses_batches_is_said_before_they_are_paid(serve, settings, cache):
    server = serve(lambda body, number: Answer(status=400, body=b'{"error": {"message": "no"}}'))
    with pytest.raises(ServiceError, match="the first request, sent directly, failed"):
        answer_by_batches(requests(4), settings(server), cache, tell=str)
    assert not server.batches
