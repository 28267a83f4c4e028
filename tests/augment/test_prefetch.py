import json
import threading
import time
from functools import partial

import pytest
from scene_runs import (
    SCENES,
    names_the_first_noun,
    names_the_thing,
    rows,
    scenes,
    whole_image,
)
from scripted_server import Answer, asked_answer

from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.pipeline import ExtractionSettings, RunSettings, run_augmentation
from fivl_hf.jobs.engines import LocalEngine


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_with_a_language_model_and_missing_images_are_not_paid_for(photos, serve, settings, workers):
    folder, read = photos
    server = serve(names_the_first_noun)
    extraction = ExtractionSettings(settings(server, concurrency=8), folder / "a.sqlite")
    result = run_augmentation(
        read(),
        whole_image,
        RunSettings(folder / "fivl", shard_size=16),
        extraction=extraction,
        engine=LocalEngine(workers),
    )
    assert (result.tally.read, result.tally.kept) == (400, 300)
    assert result.tally.failed == {"the image is missing": 100}
    assert len(server.asked) == sum(server.asked.values()) == 300
    found = rows(folder / "fivl")
    assert [row["messages"][1]["content"] for row in found] == [f"It is a car {i}." for i in range(400) if i % 4 != 3]
    assert {row["key_expressions"][0]["text"] for row in found} == {"car"}


def test_an_interrupted_run_waits_for_what_is_paid(photos, serve, settings):
    """A failing worker ends the run while requests are in flight: their answers are kept."""
    folder, read = photos
    server = serve(lambda body, number: Answer(names_the_first_noun(body, number).text, delay=0.05))

    def broken(worker):
        raise ValueError("no such model")

    extraction = ExtractionSettings(settings(server, concurrency=8), folder / "a.sqlite")
    with pytest.raises(ValueError, match="no such model"):
        run_augmentation(read(), broken, RunSettings(folder / "fivl", shard_size=4), extraction=extraction)
    result = run_augmentation(read(), whole_image, RunSettings(folder / "fivl", shard_size=4), extraction=extraction)
    assert result.tally.kept == 300
    assert set(server.asked.values()) == {1}


def test_waiting_requests_are_not_sent_after_an_end_and_hanging_ones_not_waited_for(photos, serve, settings):
    folder, read = photos
    asked_before = []
    server = serve(lambda body, number: Answer("late", delay=30 if asked_before else 0.0))

    class Failing:
        workers = 1

        def run(self, jobs, factory, folder):
            next(iter(jobs))
            asked_before.append(len(server.asked))
            time.sleep(0.3)
            raise ValueError("no such model")

    extraction = ExtractionSettings(settings(server, concurrency=4, timeout=60), folder / "a.sqlite")
    started = time.monotonic()
    with pytest.raises(ValueError, match="no such model"):
        run_augmentation(
            read(), whole_image, RunSettings(folder / "fivl", shard_size=16), engine=Failing(), extraction=extraction
        )
    assert time.monotonic() - started < 20
    # Four that were under way may still be answered, and four hang.
    assert len(server.asked) <= asked_before[0] + 8


def test_what_batches_leave_unanswered_waits_for_the_next_run(photos, serve, settings):
    folder, read = photos
    server = serve(names_the_first_noun)

    def run(**budget):
        extraction = ExtractionSettings(
            settings(server, **budget), folder / "a.sqlite", batches=True, poll_seconds=0.01
        )
        return run_augmentation(
            read("car", 40), whole_image, RunSettings(folder / "fivl", shard_size=4), extraction=extraction
        )

    first = run(max_requests=14)
    assert "the batches left requests unanswered" in first.stopped
    assert first.tally.kept == 12
    assert set(first.tally.failed) == {"the image is missing"}
    second = run()
    assert (second.stopped, second.tally.kept) == (None, 30)
    assert set(server.asked.values()) == {1}


def test_half_surrogates_in_inputs_and_replies_are_survived(photos, serve, settings):
    folder, _ = photos
    entry = {"id": "\ud83d", "image": "a.jpg", "conversations": [{"from": "human", "value": "What?"},
             {"from": "gpt", "value": "It is a car \ud83d."}]}  # fmt: skip
    (folder / "odd.jsonl").write_text(json.dumps(entry))
    server = serve(lambda body, number: Answer(json.dumps({"expressions": ["car", "\ud83d"]})))
    source = InputSettings(str(folder / "odd.jsonl"), images=(folder,))
    extraction = ExtractionSettings(settings(server), folder / "a.sqlite")
    run_augmentation(
        partial(read_conversations, source), whole_image, RunSettings(folder / "fivl"), extraction=extraction
    )
    (row,) = rows(folder / "fivl")
    assert row["messages"][1]["content"] == "It is a car ?."


def test_a_model_that_fails_for_some_samples_can_be_asked_again(tmp_path, serve, settings, scene_run):
    broken = True

    def sometimes(body, number):
        if broken and "circle" in asked_answer(body):
            return Answer(status=500, body=b"{}")
        return names_the_thing(body, number)

    run = partial(
        run_augmentation,
        scenes(70),
        SCENES,
        extraction=ExtractionSettings(settings(serve(sometimes), retries=0, concurrency=100), tmp_path / "a.sqlite"),
    )
    first = run(RunSettings(tmp_path / "fivl", shard_size=8))
    assert 0 < first.tally.failed["the server failed"] < 70
    broken = False
    second = run(RunSettings(tmp_path / "fivl", shard_size=8, retry_failed=True))
    assert second.tally.kept == 70
    assert rows(tmp_path / "fivl") == scene_run


@pytest.mark.parametrize(
    ("format", "problem"), [("json", "is not valid JSON"), ("text", "lists no words of the answer")]
)
def test_unusable_replies_fail_their_samples_and_are_asked_again(tmp_path, serve, settings, scene_run, format, problem):
    """A server that answers in prose, and later as it should: every sample is had after all, none is paid twice."""
    prose = True

    def talkative(body, number):
        if prose and "circle" in asked_answer(body):
            return Answer("Surely! The key expression is the circle.")
        words = json.loads(names_the_thing(body, number).text)["expressions"]
        return names_the_thing(body, number) if format == "json" else Answer(words[0])

    server = serve(talkative)
    extraction = ExtractionSettings(settings(server, reply_format=format), tmp_path / "a.sqlite")
    run = partial(run_augmentation, scenes(70), SCENES, extraction=extraction)
    first = run(RunSettings(tmp_path / "fivl", shard_size=8))
    failed = first.tally.failed["the language model's reply cannot be used"]
    assert 0 < failed < 70
    assert first.tally.kept == 70 - failed
    problems = [json.loads(line) for line in (tmp_path / "fivl" / "problems.jsonl").read_text().splitlines()]
    assert {problem["detail"] for problem in problems} == {f"the reply {problem}"}
    before = sum(server.asked.values())
    again = run(RunSettings(tmp_path / "fivl", shard_size=8))
    assert (again.tally.to_dict(), sum(server.asked.values())) == (first.tally.to_dict(), before)
    prose = False
    second = run(RunSettings(tmp_path / "fivl", shard_size=8, retry_failed=True))
    assert second.tally.kept == 70
    assert rows(tmp_path / "fivl") == scene_run
    # The good replies of the first run were kept.
    usable = [key for key, times in server.asked.items() if "circle" not in json.loads(key)[1]["content"]]
    assert {server.asked[key] for key in usable} == {1}


def test_a_spent_budget_leaves_a_dataset_of_what_was_paid(tmp_path, serve, settings, scene_run):
    server = serve(names_the_thing)

    def run(**budget):
        extraction = ExtractionSettings(settings(server, concurrency=2, **budget), tmp_path / "a.sqlite")
        return run_augmentation(scenes(70), SCENES, RunSettings(tmp_path / "fivl", shard_size=8), extraction=extraction)

    stopped = run(max_requests=60)
    assert "budget of 60 requests" in stopped.stopped
    assert 0 < stopped.tally.kept < 70
    paid = {row["id"] for row in rows(tmp_path / "fivl")}
    assert rows(tmp_path / "fivl") == [row for row in scene_run if row["id"] in paid]
    assert "Not complete" in (tmp_path / "fivl" / "report.html").read_text()
    assert sum(server.asked.values()) == 60
    assert run().tally.kept == 70
    assert set(server.asked.values()) == {1}
    assert rows(tmp_path / "fivl") == scene_run


def test_a_budget_too_small_for_one_shard_says_so(tmp_path, serve, settings):
    extraction = ExtractionSettings(settings(serve(names_the_thing), max_requests=1), tmp_path / "a.sqlite")
    with pytest.raises(ValueError, match="budget of 1 requests is spent"):
        run_augmentation(scenes(70), SCENES, RunSettings(tmp_path / "fivl"), extraction=extraction)


def test_a_server_slower_than_the_workers_is_waited_for(tmp_path, serve, settings):
    """Jobs come in the order in which they are answered; none is lost."""
    lock = threading.Lock()
    slow = set()

    def first_is_last(body, number):
        with lock:
            late = not slow
            slow.add(1)
        answer = names_the_thing(body, number)
        answer.delay = 1.0 if late else 0.0
        return answer

    extraction = ExtractionSettings(settings(serve(first_is_last)), tmp_path / "a.sqlite")
    result = run_augmentation(scenes(40), SCENES, RunSettings(tmp_path / "fivl", shard_size=4), extraction=extraction)
    assert result.tally.kept == 40
    assert [row["id"] for row in rows(tmp_path / "fivl")] == [f"scene-0-train-{i}" for i in range(40)]
