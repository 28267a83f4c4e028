"""What a language model's server may send: nothing is believed, stored, shown or paid beyond measure."""

import contextlib
import gzip
import json
import random
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from scripted_server import Answer, asked_answer, completion

from fivl_hf.augment.extractors.chat import ChatExtractor, expression_request
from fivl_hf.cli.main import main
from fivl_hf.files.managed_folders import work_folder
from fivl_hf.llm.answers import AnswerCache
from fivl_hf.llm.batches import answer_by_batches
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.server import clean_text
from fivl_hf.llm.settings import RequestError, ServiceError
from fivl_hf.schema import Turn

KEY = "sk-proj-abcdefgh12345678"


@pytest.fixture
def extract(tmp_path, settings):
    """Key expressions of one turn, and what the client spent."""

    def run(server, **options):
        client = ChatClient(settings(server, **{"retries": 0, **options}), AnswerCache(tmp_path / "answers.sqlite"))
        with ChatExtractor(client) as extractor:
            (found,) = extractor.extract([Turn("What is it?", "This is number0.")])
            return [mention.text for mention in found.mentions], extractor.client.spent

    return run


def body(text, **more):
    return json.dumps({**completion(text), **more}).encode()


UNUSABLE = {
    "a reply of 300 MB": Answer("x" * 300_000_000),
    "JSON nested 100,000 deep": Answer("[" * 100_000 + "]" * 100_000),
    "a body nested 100,000 deep": Answer(body=b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no chat completion": Answer(body=b"[1, 2]"),
    "a number in place of a reply": Answer(body=body(7)),
    "HTML": Answer(body=b"<html><script>alert(1)</script></html>"),
    "no bytes": Answer(body=b""),
    "half surrogates alone": Answer(body=b'{"choices": [{"message": {"content": "\\ud83d"}}]}'),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_replies_that_are_none_fail_their_request(serve, extract, tmp_path, name):
    with pytest.raises(RequestError):
        extract(serve(lambda *_: UNUSABLE[name]))
    assert (tmp_path / "answers.sqlite").stat().st_size < 2_000_000
    assert extract(serve())[0] == ["number0"]


def test_a_reply_of_gigabytes_in_megabytes_is_not_unpacked(serve, extract):
    bomb = gzip.compress(bytes(500_000_000), 9)
    server = serve(lambda *_: Answer(body=bomb, headers={"Content-Encoding": "gzip"}))
    started = time.monotonic()
    with pytest.raises(RequestError, match="a reply compressed by 'gzip', which was not asked for"):
        extract(server)
    assert time.monotonic() - started < 3


def test_random_replies_are_used_or_fail(serve, extract, tmp_path):
    draw = random.Random(0)
    good = completion('{"expressions": ["number0"]}')

    def anything(*_):
        data = bytearray(json.dumps(good).encode())
        for _ in range(draw.randint(1, 20)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        return Answer(body=bytes(data[: draw.randrange(len(data) + 1)]))

    server = serve(anything)
    for _ in range(100):
        (tmp_path / "answers.sqlite").unlink(missing_ok=True)
        with contextlib.suppress(RequestError, ServiceError):
            extract(server)


def test_a_reply_of_thousands_of_expressions_is_refused_at_once(serve, extract):
    """Each would be looked for in the whole answer."""
    server = serve(lambda *_: Answer(json.dumps({"expressions": [f"number{i}" for i in range(20_000)]})))
    started = time.monotonic()
    with pytest.raises(RequestError, match="lists 20,000 expressions"):
        extract(server)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -5},
        {"prompt_tokens": 1e400},
        {"prompt_tokens": 10**12},
        "lots",
        {"prompt_tokens": {}},
        {"prompt_tokens": -5, "completion_tokens": 1},
    ],
)
def test_usage_that_cannot_be_true_does_not_disarm_the_budget(serve, extract, usage):
    _, spent = extract(serve(lambda *_: Answer(body=body('{"expressions": ["number0"]}', usage=usage))))
    assert 100 < spent.prompt_tokens < 1000


def test_a_redirect_takes_no_key_to_another_host(serve, extract, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    other = serve()
    elsewhere = other.url.replace("127.0.0.1", "localhost") + "/chat/completions"
    extract(serve(lambda *_: Answer(status=307, headers={"Location": elsewhere}, body=b"")))
    assert sum(other.asked.values()) == 1
    assert not any(KEY in str(headers) for headers in other.headers)


def test_a_redirect_in_a_circle_ends(serve, extract):
    server = serve(lambda *_: Answer(status=307, headers={"Location": f"{server.url}/chat/completions"}, body=b""))
    with pytest.raises((RequestError, ServiceError)):
        extract(server)
    assert sum(server.asked.values()) < 50


def test_a_slow_server_does_not_hold_a_request_for_ever(serve, extract):
    """The limit is on the whole attempt: a byte now and then does not extend it."""
    server = serve(lambda *_: Answer("x" * 1000, drip=0.05))
    started = time.monotonic()
    with pytest.raises(RequestError, match="did not reply in time: within 0.3 s"):
        extract(server, timeout=0.3)
    assert time.monotonic() - started < 3


def test_what_a_server_says_is_cleaned():
    said = f"<html>\x1b[31mbad\x1b[0m key\n {KEY} </html> `x` \x07 Bearer abc.def"
    assert clean_text(said) == "bad key [key] 'x' Bearer [key]"
    assert clean_text("![t](http://x/y.png) http://me:hunter2@host/v1") == "!(t)(http://x/y.png) http://[key]@host/v1"
    for key in ("AIzaSyA1234567890abc", "r8_abcdefghij", "eyJhbGciOi.eyJzdWIi.c2ln", "SK-PROJ-ABCDEFGH", "0" * 40):
        assert clean_text(f"invalid key {key}") == "invalid key [key]"


def test_nothing_a_server_says_reaches_files_or_the_terminal_as_it_is(serve, tmp_path, monkeypatch, capsys):
    """A server that breaks down in the middle, and echoes the key with HTML and escape sequences."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said = f"<script>alert(1)</script>\x1b[2J Incorrect key {KEY}"

    def breaks_down(request, number):
        if len(server.bodies) > 30:
            return Answer(status=401, body=json.dumps({"error": {"message": said}}).encode())
        return Answer(json.dumps({"expressions": [" ".join(asked_answer(request).rstrip(".").split()[-2:])]}))

    server = serve(breaks_down)
    output = tmp_path / "fivl"
    command = ["augment", "--input", "scenes", "--limit", "40", "--grounder", "scenes", "--shard-size", "4"]
    command += ["--extractor", "openai", "--model", "m", "--base-url", server.url, "--output", str(output)]
    assert main([*command, "--concurrency", "1"]) == 1
    told = "".join(capsys.readouterr())
    assert "Incorrect key [key]" in told
    written = [path for folder in (output, work_folder(output)) for path in folder.rglob("*") if path.is_file()]
    assert output / "README.md" in written
    for text in (told.encode(), *(path.read_bytes() for path in written)):
        assert KEY.encode() not in text
        assert b"<script>alert" not in text
        assert b"\x1b[2J" not in text
    assert "Not complete: " in (output / "README.md").read_text()
    assert main(["push", "dataset", str(output), "me/x", "--dry-run"]) == 0
    assert "fivl is not complete, as its card says" in capsys.readouterr().err


BATCH_REPLIES = {
    "JSON nested deep": b"[" * 100_000 + b"]" * 100_000,
    "null": b"null",
    "a list": b"[]",
    "text": b"<html><script>alert(1)</script>",
    "90 MB": b'{"id": "' + b"x" * 90_000_000 + b'"}',
}


@pytest.mark.parametrize("name", BATCH_REPLIES)
@pytest.mark.parametrize("place", ["_upload", "_create_batch", "_get"])
def test_replies_of_the_batch_api_that_are_none_stop_with_a_reason(serve, settings, tmp_path, place, name):
    server = serve()
    setattr(server, place, lambda *_: Answer(body=BATCH_REPLIES[name]))
    requests = [expression_request(Turn("What?", f"This is number{i}."), "m") for i in range(3)]
    cache = AnswerCache(tmp_path / "answers.sqlite")
    with pytest.raises(ServiceError, match="Batch API"):
        answer_by_batches(requests, settings(server, retries=0), cache, poll_seconds=0.01, tell=str)


def test_a_batch_server_that_drips_is_not_waited_for(serve, settings, tmp_path):
    server = serve()
    server._get = lambda *_: Answer("x" * 1000, drip=0.1)
    requests = [expression_request(Turn("What?", f"This is number{i}."), "m") for i in range(3)]
    started = time.monotonic()
    cache = AnswerCache(tmp_path / "answers.sqlite")
    with pytest.raises(ServiceError, match="Batch API: no reply within 0.5 s"):
        answer_by_batches(requests, settings(server, retries=0, timeout=0.5), cache, poll_seconds=0.01, tell=str)
    assert time.monotonic() - started < 5


def test_what_a_batch_says_is_cleaned(serve, settings, tmp_path):
    said = f"<script>alert(1)</script>\x1b[2J key {KEY}"
    server = serve(lambda body, number: Answer(status=400, body=json.dumps({"error": {"message": said}}).encode())
                   if "number2" in asked_answer(body) else Answer('{"expressions": []}'))  # fmt: skip
    requests = [expression_request(Turn("What?", f"This is number{i}."), "m") for i in range(3)]
    lines = []
    cache = AnswerCache(tmp_path / "answers.sqlite")
    answer_by_batches(requests, settings(server), cache, poll_seconds=0.01, tell=lines.append)
    assert lines[-1].endswith("1 × alert(1) key [key]")


def test_ctrl_c_waits_a_second_for_what_is_paid_and_no_longer(serve, tmp_path):
    server = serve(lambda *_: Answer("x", delay=60))
    command = [sys.executable, "-m", "fivl_hf", "augment", "--input", "scenes", "--limit", "4", "--grounder", "scenes"]
    command += ["--extractor", "openai", "--model", "m", "--base-url", server.url, "--output", str(tmp_path / "fivl")]
    # A process started in the background ignores Ctrl-C, and so would its children.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeding)
    while not server.asked:
        time.sleep(0.02)
        assert running.poll() is None
    interrupted = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, error = running.communicate(timeout=30)
    # Half a second for the replies, the rest for the interpreter to end.
    assert time.monotonic() - interrupted < 3
    assert "Traceback" not in error
