"""Evaluations that are killed, and that several processes share: nothing is asked twice, and the result is the same."""

import base64
import io
import json
import random
from collections import Counter

import pytest
from PIL import Image
from scripted_server import Answer

from fivl_hf.evaluation.table import read_answers

ROWS = 8
CONDITIONS = "original,removed,random,text-only"
ANSWERS = 4 * ROWS


def command(places, output, *more):
    return [
        *("evaluate", "--model", places / "model", "--dataset", places / "rows", "--output", output),
        *("--conditions", CONDITIONS, "--max-new-tokens", 4, "--batch-size", 2, "--resamples", 200, *more),
    ]


def moments():
    """Answers written when a run is killed: while the model is loaded, at ten random moments, when all are written."""
    return [0, *sorted(random.Random(0).sample(range(1, ANSWERS), 10)), ANSWERS]


def finished(output):
    """The result's bytes; every question was answered once."""
    keys = Counter((answer.id, answer.condition) for answer in read_answers(output / "answers.jsonl"))
    assert (len(keys), set(keys.values())) == (ANSWERS, {1})
    assert not list(output.glob("answers.process*"))
    return (output / "reliance.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_transformers_model_that_is_killed_again_and_again(children, places, tmp_path, processes):
    """Answers that were written are never asked again: they keep their place in the file."""
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert children(command(places, alone)) == [0]
    whole = finished(alone)
    before = set()
    for moment in moments():
        children(command(places, killed), processes, kill_after=moment)
        lines = {line for file in killed.glob("answers*.jsonl") for line in file.read_text().splitlines(True)}
        lines = {line for line in lines if line.endswith("\n")}
        assert before <= lines
        before = lines
    assert children(command(places, killed), processes) == [0] * processes
    assert finished(killed) == whole
    assert before <= set((killed / "answers.jsonl").read_text().splitlines(True))


@pytest.mark.slow
def test_an_endpoint_with_errors_that_is_killed_again_and_again(children, places, tmp_path, serve):
    """Answers that were kept are not requested again; only requests in flight at a kill may be."""

    def answered(body, number):
        draw = random.Random(json.dumps(body)).random()
        if number == 0 and draw < 0.3:
            return Answer(status=500) if draw < 0.1 else Answer(cut=True) if draw < 0.2 else Answer(status=429)
        return Answer(reply(body), delay=0.02)

    def reply(body):
        images = [part for part in body["messages"][-1]["content"] if part["type"] == "image_url"]
        if not images:
            return ""
        data = base64.b64decode(images[0]["image_url"]["url"].partition(",")[2])
        dark = sum(pixel == (0, 0, 0) for pixel in Image.open(io.BytesIO(data)).convert("RGB").getdata())
        return f"It is a red ring {dark % 2}."

    server = serve(answered)
    options = ["--endpoint", server.url, "--concurrency", 4, "--scorer", "contains"]
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert children(command(places, alone, *options)) == [0]
    whole = finished(alone)
    once = dict(server.asked)
    server.asked.clear()
    for moment in moments():
        children(command(places, killed, *options), kill_after=moment)
    assert children(command(places, killed, *options)) == [0]
    assert finished(killed) == whole
    more = sum(server.asked.values()) - sum(once.values())
    # At each kill, as many as were under way.
    assert 0 <= more <= len(moments()) * 4
    assert len(set((killed / "answers.jsonl").read_text().splitlines())) == ANSWERS


@pytest.mark.slow
def test_an_endpoint_is_asked_by_the_first_of_two_processes(children, places, tmp_path, serve):
    """Budget, requests at a time and what got no answer are those of one process."""

    def moody(body, number):
        if "blue" in json.dumps(body["messages"][-1]["content"][-1]):
            return Answer(status=400)
        return Answer("It is a red ring.", delay=0.02)

    server = serve(moody)
    options = ["--endpoint", server.url, "--concurrency", 3, "--scorer", "contains"]
    results = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        assert children(command(places, output, *options), processes) == [0] * processes
        results.append((output / "reliance.json").read_bytes())
    assert results[0] == results[1]
    assert json.loads(results[0])["unanswered"]["the server rejects the request"] > 0
    assert server.most_open <= 3


@pytest.mark.slow
def test_two_processes_answer_as_one(children, places, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert children(command(places, one)) == [0]
    assert children(command(places, two), processes=2) == [0, 0]
    assert finished(two) == finished(one)
    texts = [
        {(each.id, each.condition): each.answer for each in read_answers(folder / "answers.jsonl")}
        for folder in (one, two)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == ANSWERS
