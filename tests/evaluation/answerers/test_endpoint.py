"""Questions asked of an OpenAI-compatible server whose answers a test decides, or that a real model gives."""

import base64
import io
import json
import threading

import pytest
from PIL import Image
from scripted_server import Answer

from fivl_hf.cli.main import main
from fivl_hf.evaluation.answerers.endpoint import EndpointAnswerer
from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.answerers.protocol import Request, Unanswered
from fivl_hf.evaluation.plan import Plan
from fivl_hf.evaluation.table import read_answers
from fivl_hf.llm.settings import ServiceError
from fivl_hf.models import load_model
from fivl_hf.storage import write_dataset


def parts(body):
    """The texts and images of a request's last message."""
    content = body["messages"][-1]["content"]
    images = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    opened = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in images]
    return "".join(part["text"] for part in content if part["type"] == "text"), opened


def requests_of(rows):
    return Plan(rows, ["original"])


def texts(pairs):
    return {request.id: generated.text for request, generated in pairs}


def test_an_endpoint_that_serves_a_model_answers_as_the_model_does(model, processor, rows, serve, settings, tmp_path):
    lock = threading.Lock()
    local = TransformersAnswerer(model, processor, batch_size=1, max_new_tokens=5)

    def served(body, number):
        text, images = parts(body)
        with lock:
            request = Request("1", "original", [{"role": "user", "content": text}], len(images), lambda: images)
            ((_, answer),) = local.answers([request])
        return Answer(answer.text)

    server = serve(served)
    answerer = EndpointAnswerer(settings(server, reply_tokens=5, concurrency=4), tmp_path / "a.sqlite")
    asked = requests_of(rows[:6])
    expected = texts(local.answers(asked))
    assert texts(answerer.answers(asked)) == expected
    assert {body["max_completion_tokens"] for body in server.bodies} == {5}
    assert all("response_format" not in body for body in server.bodies)
    again = EndpointAnswerer(settings(server, reply_tokens=5), tmp_path / "a.sqlite")
    assert texts(again.answers(asked)) == expected
    assert (again.spent.requests, again.spent.cached) == (0, 6)


def test_the_command_gives_the_same_answers_by_either_way_to_the_demos_model(demo, serve, tmp_path):
    lock = threading.Lock()
    folder = demo / "models" / "fivl"
    local = TransformersAnswerer(*load_model(str(folder), device="cpu"), batch_size=1)

    def served(body, number):
        text, images = parts(body)
        messages = [{"role": "user", "content": text}]
        with lock:
            ((_, answer),) = local.answers([Request("1", "original", messages, len(images), lambda: images)])
        return Answer(answer.text, finish=answer.finish_reason)

    about = ["--dataset", str(demo / "fivl"), "--split", "test[:6]", "--max-new-tokens", "32"]
    about += ["--conditions", "original,removed,random,kept,text-only"]
    found = []
    for name, options in (("local", []), ("endpoint", ["--endpoint", serve(served).url, "--concurrency", "4"])):
        assert main(["evaluate", "--model", str(folder), *about, "--output", str(tmp_path / name), *options]) == 0
        answers = {
            (each.id, each.condition): (each.answer, each.finish_reason, each.boxes)
            for each in read_answers(tmp_path / name / "answers.jsonl")
        }
        summary = json.loads((tmp_path / name / "reliance.json").read_text())
        found.append((answers, [summary[key] for key in ("visual_reliance_score", "conditions", "grounding")]))
    assert found[0] == found[1]
    # One of the six questions asks for something absent; without evidence, three of the conditions do not apply to it.
    assert len(found[0][0]) == 5 * 5 + 2


def test_failures_are_retried_or_counted_and_odd_answers_are_answers(rows, serve, settings, tmp_path):
    def moody(body, number):
        place = len(server.asked)
        if place % 6 == 1 and number == 0:
            return Answer(status=429, headers={"Retry-After": "0"})
        if place % 6 == 2 and number == 0:
            return Answer(cut=True)
        if place % 6 == 3:
            return Answer("", refusal="I cannot help with that.")
        return Answer("" if place % 6 == 4 else "It is a red ring.")

    server = serve(moody)
    answerer = EndpointAnswerer(settings(server, concurrency=1), tmp_path / "a.sqlite")
    answers = texts(answerer.answers(requests_of(rows[:12])))
    assert len(answers) == 12
    assert set(answers.values()) == {"It is a red ring.", "I cannot help with that.", ""}
    assert answerer.unanswered == []

    broken = serve(lambda body, number: Answer(status=400) if len(broken.asked) == 2 else Answer("yes"))
    answerer = EndpointAnswerer(settings(broken, concurrency=1), tmp_path / "b.sqlite")
    assert len(texts(answerer.answers(requests_of(rows[:4])))) == 3
    assert answerer.unanswered == [Unanswered(rows[1]["id"], "original", "the server rejects the request")]


def test_what_was_answered_comes_before_the_error(rows, serve, settings, tmp_path):
    server = serve(lambda body, number: Answer("yes"))
    answerer = EndpointAnswerer(settings(server, concurrency=1, max_requests=3), tmp_path / "a.sqlite")
    answers = []
    with pytest.raises(ServiceError, match="budget of 3 requests is spent"):
        answers.extend(answerer.answers(requests_of(rows[:8])))
    assert len(answers) == 3
    refused = EndpointAnswerer(settings(serve(lambda body, number: Answer(status=401))), tmp_path / "b.sqlite")
    with pytest.raises(ServiceError, match="does not accept the API key"):
        list(refused.answers(requests_of(rows[:2])))


def test_large_images_are_made_smaller(rows, serve, settings, tmp_path):
    server = serve(lambda body, number: Answer("yes"))
    messages, images = [{"role": "user", "content": "What?"}], [Image.new("RGB", (400, 100), "red")]
    request = Request("1", "original", messages, 1, lambda: images)
    answerer = EndpointAnswerer(settings(server), tmp_path / "a.sqlite", image_side=50)
    assert texts(answerer.answers([request])) == {"1": "yes"}
    assert parts(server.bodies[0])[1][0].size == (50, 13)


def test_who_stops_listening_stops_the_questions(rows, serve, settings, tmp_path):
    server = serve(lambda body, number: Answer("yes", delay=0.05))
    answers = EndpointAnswerer(settings(server, concurrency=2), tmp_path / "a.sqlite").answers(requests_of(rows[:24]))
    next(answers)
    answers.close()
    assert len(server.asked) < 12


def test_the_command_goes_on_after_its_budget_and_asks_nothing_twice(rows, serve, tmp_path, capsys, monkeypatch):
    write_dataset(tmp_path / "rows", {"test": rows[:5]}, title="S", description="D")
    server = serve(lambda body, number: Answer("It is a red ring." if parts(body)[1] else "no image"))
    command = ["evaluate", "--model", "gpt", "--endpoint", server.url, "--dataset", str(tmp_path / "rows")]
    command += ["--output", str(tmp_path / "out"), "--conditions", "original,removed,text-only", "--concurrency", "1"]
    assert main([*command, "--max-requests", "7"]) == 1
    assert "the budget of 7 requests is spent" in capsys.readouterr().err
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "requests (0 failed)" in printed
    assert "accuracy, text-only" in printed
    assert set(server.asked.values()) == {1}
    result = json.loads((tmp_path / "out" / "reliance.json").read_text())
    assert (result["questions"], result["endpoint"], result["unanswered"]) == (5, server.url, {})
    assert {len(parts(body)[1]) for body in server.bodies} == {0, 1}
    assert main([*command, "--model", "another"]) == 1
    assert "of another run (model: 'gpt', now 'another')" in capsys.readouterr().err


def test_the_command_asks_by_batches(rows, serve, tmp_path):
    write_dataset(tmp_path / "rows", {"test": rows[:3]}, title="S", description="D")
    server = serve(lambda body, number: Answer("a ring"))
    command = ["evaluate", "--model", "gpt", "--endpoint", server.url, "--dataset", str(tmp_path / "rows")]
    command += ["--output", str(tmp_path / "out"), "--conditions", "original,removed,random"]
    assert main([*command, "--batch-api"]) == 0
    assert len(server.batches) >= 1
    assert (tmp_path / "out" / "answers.jsonl").read_text().count('"a ring"') == 9
    asked = sum(server.asked.values())
    assert main(command) == 0
    assert sum(server.asked.values()) == asked


@pytest.mark.parametrize(("status", "message"), [(401, "401"), (404, "404"), (None, "no connection to the server at")])
def test_a_wrong_endpoint_is_one_sentence(rows, serve, tmp_path, capsys, status, message):
    write_dataset(tmp_path / "rows", {"test": rows[:2]}, title="S", description="D")
    server = serve(lambda body, number: Answer(status=status or 200, body=b'{"error": {"message": "no such thing"}}'))
    if status is None:
        server.close()
    command = ["evaluate", "--model", "gpt", "--endpoint", server.url, "--dataset", str(tmp_path / "rows")]
    assert main([*command, "--output", str(tmp_path / "out")]) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fivl: ")]
    assert message in line
