"""Nothing is paid twice or without being counted: time-outs, lost replies, kills, runs that share a cache."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from extractions import requests, turns
from scripted_server import Answer

from fivl_hf.llm.answers import AnswerCache, BatchJob, Reply
from fivl_hf.llm.batches import answer_by_batches
from fivl_hf.llm.settings import ServiceError


def test_every_attempt_counts(serve, extract):
    """A time-out may be paid: it counts as a request, and by its estimated tokens."""
    server = serve(lambda body, number: Answer("late", delay=2))
    with pytest.raises(ServiceError, match="budget of 4 requests is spent"):
        extract(server, turns(2), timeout=0.5, retries=6, concurrency=1, max_requests=4)
    assert sum(server.asked.values()) == 4
    with pytest.raises(ServiceError, match="budget of 500 tokens is spent"):
        extract(server, turns(2), timeout=0.5, retries=6, concurrency=1, max_tokens=500)


OPEN = """
import multiprocessing, sys
from pathlib import Path
from fivl_hf.llm.answers import AnswerCache

fork = multiprocessing.get_context("fork")

def opened(path, together):
    together.wait()
    AnswerCache(path)

for number in range(20):
    together = fork.Barrier(6)
    path = Path(sys.argv[1]) / str(number) / "a.sqlite"
    processes = [fork.Process(target=opened, args=(path, together)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            sys.exit(1)
"""


def test_processes_that_open_a_new_cache_at_once_wait_for_each_other(tmp_path):
    done = subprocess.run([sys.executable, "-c", OPEN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_processes_with_one_cache_do_not_ask_twice(serve, settings, tmp_path):
    server = serve(lambda body, number: Answer('{"expressions": []}', delay=0.3))
    command = [sys.executable, "-c", ASK, str(tmp_path / "a.sqlite"), server.url]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert set(server.asked.values()) == {1}
    assert len(server.asked) == 6


ASK = """
import sys
from pathlib import Path
from fivl_hf.augment.extractors.chat import ChatExtractor
from fivl_hf.llm.answers import AnswerCache
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.settings import ChatSettings
from fivl_hf.schema import Turn
client = ChatClient(ChatSettings("m", sys.argv[2], concurrency=2), AnswerCache(Path(sys.argv[1])))
with ChatExtractor(client) as extractor:
    extractor.extract([Turn("What?", f"This is number{i}.") for i in range(6)])
"""


def test_requests_lost_in_a_kill_are_counted(serve, extract, tmp_path):
    slow = serve(lambda body, number: Answer('{"expressions": []}', delay=30))
    process = subprocess.Popen([sys.executable, "-c", ASK, str(tmp_path / "answers.sqlite"), slow.url])
    while len(slow.asked) < 2:
        time.sleep(0.02)
    process.kill()
    process.wait()
    _, spent = extract(serve(), turns(1))
    assert spent.lost == 2
    _, spent = extract(serve(), turns(1))
    assert spent.lost == 2


def test_a_batch_submitted_just_before_a_kill_is_found_again(serve, settings, cache, monkeypatch):
    server = serve()
    kept = AnswerCache.note_batch

    def killed(self, batch, **options):
        if batch.id:
            raise SystemExit
        kept(self, batch, **options)

    monkeypatch.setattr(AnswerCache, "note_batch", killed)
    with pytest.raises(SystemExit):
        answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01)
    monkeypatch.setattr(AnswerCache, "note_batch", kept)
    answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01, tell=str)
    assert len(server.batches) == 1
    assert len(cache) == 3


def test_a_lost_reply_to_a_submission_submits_no_second_batch(serve, settings, cache):
    server = serve()
    server.lose_batch_replies = 1
    answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01, tell=str)
    assert len(server.batches) == 1
    assert len(cache) == 3


def test_a_batch_that_the_server_has_forgotten_is_asked_again(serve, settings, cache):
    server = serve()
    cache.note_batch(BatchJob("gone", "batch-9", 2))
    (cache.path.with_suffix(".batches")).mkdir()
    line = json.dumps({"custom_id": requests(1)[0].key, "body": {}})
    (cache.path.with_suffix(".batches") / "gone.jsonl").write_text(line + "\n")
    told = []
    answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01, tell=told.append)
    assert "batch batch-9: the server does not know it any more" in " ".join(told)
    answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01, tell=str)
    assert len(cache) == 3


def test_two_batch_runs_with_one_cache_submit_each_request_once(serve, settings, tmp_path):
    server = serve()
    server.batch_status = "in_progress"

    def run(_):
        cache = AnswerCache(tmp_path / "a.sqlite")
        answer_by_batches(requests(20), settings(server), cache, poll_seconds=0.05, tell=str)
        return len(cache)

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run, number) for number in range(2)]
        time.sleep(0.5)
        server.batch_status = "completed"
        assert [each.result() for each in both] == [20, 20]
    assert set(server.asked.values()) == {1}
    assert len(server.asked) == 20


def test_what_another_batch_run_answers_between_look_up_and_claim_is_not_submitted(serve, settings, cache, monkeypatch):
    server = serve()
    claim, late = AnswerCache.claim, requests(3)[1].key

    def answered_meanwhile(self, key, seconds):
        if key == late:
            self.put(key, Reply("{}"), model="m", prompt="p", question="q")
        return claim(self, key, seconds)

    monkeypatch.setattr(AnswerCache, "claim", answered_meanwhile)
    answer_by_batches(requests(3), settings(server), cache, poll_seconds=0.01, tell=str)
    assert len(cache) == 3
    assert len(server.asked) == 2
    assert not any(cache.is_claimed(request.key) for request in requests(3))


def test_a_batch_given_up_by_one_run_stays_that_of_the_run_that_submitted_it(cache):
    cache.note_batch(BatchJob("name", None, 2))
    cache.note_batch(BatchJob("name", "batch-1", 2))
    cache.note_batch(BatchJob("name", None, 2), collected=True)
    assert cache.batches() == [BatchJob("name", "batch-1", 2)]
    cache.note_batch(BatchJob("name", "batch-1", 2), collected=True)
    cache.note_batch(BatchJob("name", None, 2), collected=True)
    assert cache.batches() == []
