"""Whole runs: shards, resuming, engines, budgets, and what goes wrong."""

import json
import resource
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image
from scripted_server import Answer, asked_answer

from fivl_hf.augment.expressions import NounPhraseExtractor
from fivl_hf.augment.grounding import Grounding
from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.pipeline import ExtractionSettings, RunSettings, run_augmentation
from fivl_hf.augment.rows import Tools
from fivl_hf.augment.tools import ToolSettings
from fivl_hf.cli.main import main
from fivl_hf.files.locks import FolderInUseError
from fivl_hf.files.owned import work_folder
from fivl_hf.images import image_bytes
from fivl_hf.jobs.engines import LocalEngine, RayEngine
from fivl_hf.jobs.shards import read_report

SCENES = ToolSettings(grounder="scenes")


def scenes(count):
    return partial(read_conversations, InputSettings("scenes", limit=count))


def rows(folder):
    return load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache")).to_list()


def names_the_thing(body, number):
    """What a good model says of "It is a red circle." and "There is a red circle."."""
    words = asked_answer(body).rstrip(".").split()
    return Answer(json.dumps({"expressions": [" ".join(words[-2:])]}), delay=0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run by one process."""
    output = tmp_path_factory.mktemp("whole") / "fivl"
    result = run_augmentation(scenes(70), SCENES, RunSettings(output, shard_size=8, total=70))
    assert (result.tally.read, result.tally.kept) == (70, 70)
    return rows(output)


def test_the_folder_is_ready_for_load_dataset_and_reports(whole, tmp_path):
    output = tmp_path / "fivl"
    run_augmentation(scenes(10), SCENES, RunSettings(output))
    assert rows(output) == whole[:10]
    report = json.loads((output / "report.json").read_text())
    assert report["tally"] == {"read": 10, "kept": 10, "dropped": {}, "failed": {}}
    assert sum(report["mask_coverage"]["counts"]) == 20
    assert report["expressions_per_turn"] == {"1": 20}
    page = (output / "report.html").read_text()
    assert page.count("data:image/jpeg") == 10
    assert "10 FiVL rows from 10 samples" in page


@pytest.mark.slow
@pytest.mark.parametrize("engine", [LocalEngine(2), RayEngine(2)], ids=["2 processes", "Ray"])
def test_all_engines_give_the_same_rows(whole, tmp_path, engine):
    result = run_augmentation(scenes(70), SCENES, RunSettings(tmp_path / "fivl", shard_size=8), engine=engine)
    assert result.tally.kept == 70
    assert rows(tmp_path / "fivl") == whole


def test_a_finished_run_is_taken_as_it_is_and_a_longer_one_goes_on(whole, tmp_path):
    output = tmp_path / "fivl"
    made = []

    def counting(worker):
        made.append(worker)
        return SCENES(worker)

    run = partial(run_augmentation, factory=counting, settings=RunSettings(output, shard_size=8))
    run(scenes(20))
    shards = work_folder(output) / "shards"
    marks = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    run(scenes(20))
    assert {path.name: path.stat().st_mtime_ns for path in shards.iterdir()} == marks
    run(scenes(70))
    assert rows(output) == whole
    kept = {path.name for path in shards.iterdir() if marks.get(path.name) == path.stat().st_mtime_ns}
    assert kept == {f"{i:06d}.{kind}" for i in (0, 1) for kind in ("report", "rows")}


def test_other_settings_are_not_mixed_in(tmp_path):
    run = partial(run_augmentation, scenes(4), SCENES)
    run(RunSettings(tmp_path / "fivl", identity={"model": "a"}))
    with pytest.raises(ValueError, match="model: 'a', now 'b'.*--restart"):
        run(RunSettings(tmp_path / "fivl", identity={"model": "b"}))
    run(RunSettings(tmp_path / "fivl", identity={"model": "b"}, restart=True))


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "fivl").mkdir()
    (tmp_path / "fivl" / "thesis.tex").write_text("!")
    with pytest.raises(FileExistsError, match="not a dataset of fivl-hf"):
        run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl"))
    assert not work_folder(tmp_path / "fivl").exists()


def test_what_people_put_beside_the_dataset_stays(tmp_path):
    run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl"))
    (tmp_path / "fivl" / "notes.txt").write_text("mine")
    run_augmentation(scenes(6), SCENES, RunSettings(tmp_path / "fivl"))
    assert (tmp_path / "fivl" / "notes.txt").read_text() == "mine"
    assert len(rows(tmp_path / "fivl")) == 6
    with pytest.raises(ValueError, match="split: 'train', now 'test'"):
        run_augmentation(scenes(6), SCENES, RunSettings(tmp_path / "fivl", split="test"))


def test_settings_of_a_run_that_came_to_nothing_do_not_bind(tmp_path):
    def broken(worker):
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        run_augmentation(scenes(4), broken, RunSettings(tmp_path / "fivl", identity={"detector": "typo"}))
    run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl", identity={"detector": "right"}))


def test_two_runs_at_a_time_do_not_undo_each_other(tmp_path):
    def second():
        yield from scenes(4)()
        with pytest.raises(FolderInUseError, match="in use by"):
            run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl"))

    run_augmentation(second, SCENES, RunSettings(tmp_path / "fivl"))


def test_a_language_model_gives_the_same_rows_as_noun_phrases(whole, tmp_path, serve, settings):
    server = serve(names_the_thing)
    extraction = ExtractionSettings(settings(server), tmp_path / "answers.sqlite")
    run = partial(run_augmentation, scenes(70), SCENES, extraction=extraction)
    result = run(RunSettings(tmp_path / "fivl", shard_size=8))
    assert rows(tmp_path / "fivl") == whole
    assert set(server.asked.values()) == {1}
    again = run(RunSettings(tmp_path / "fivl", shard_size=8, restart=True))
    assert (again.spent.requests, again.spent.cached) == (0, 140)
    assert result.spent.requests == len(server.asked)


@pytest.fixture
def photos(tmp_path):
    """A LLaVA file of 400 samples, half of whose images are missing, and its settings."""
    (tmp_path / "a.jpg").write_bytes(image_bytes(Image.new("RGB", (8, 6), "red"), "JPEG"))
    return tmp_path, partial(_photo_settings, tmp_path)


def _photo_settings(folder, thing="car", count=400):
    entries = [
        {
            "id": i // 2,
            "image": "b.jpg" if i % 4 == 3 else "a.jpg",
            "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": f"It is a {thing} {i}."}],
        }
        for i in range(count)
    ]
    (folder / "mix.json").write_text(json.dumps(entries))
    return partial(read_conversations, InputSettings(str(folder / "mix.json"), images=(folder,)))


def whole_image(worker):
    return Tools(NounPhraseExtractor(), WholeImage())


class WholeImage:
    def ground(self, requests):
        return [[self.one(request)] * len(request.expressions) for request in requests]

    def one(self, request):
        width, height = request.images[0].size
        return Grounding(np.ones((height, width), dtype=bool), ((0, 0, width, height),))


def names_the_first_noun(body, number):
    return Answer(json.dumps({"expressions": [asked_answer(body).split()[3]]}))


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


def test_shards_of_an_earlier_input_are_not_mixed_in(photos, serve, settings):
    folder, read = photos

    def run(thing, **budget):
        extraction = ExtractionSettings(
            settings(serve(names_the_first_noun), concurrency=1, **budget), folder / "a.sqlite"
        )
        return run_augmentation(
            read(thing, 40), whole_image, RunSettings(folder / "fivl", shard_size=4), extraction=extraction
        )

    assert run("car").tally.kept == 30
    stopped = run("dog", max_requests=8)
    assert stopped.stopped
    texts = [row["key_expressions"][0]["text"] for row in rows(folder / "fivl")]
    assert set(texts) == {"dog"}
    assert stopped.tally.kept == len(texts)


def test_a_later_stop_does_not_lose_what_was_finished(photos, serve, settings):
    folder, read = photos

    def run(**budget):
        extraction = ExtractionSettings(
            settings(serve(names_the_first_noun), concurrency=1, **budget), folder / "a.sqlite"
        )
        settings_ = RunSettings(folder / "fivl", shard_size=4)
        return run_augmentation(read("car", 40), whole_image, settings_, extraction=extraction).tally.kept

    assert run() == 30
    shards = work_folder(folder / "fivl") / "shards"
    (shards / "000002.report").unlink()
    (folder / "a.sqlite").unlink()
    assert run(max_requests=1) == 27


def test_a_image_that_was_corrected_is_made_again(photos):
    folder, read = photos
    make = partial(run_augmentation, factory=whole_image, settings=RunSettings(folder / "fivl", shard_size=4))
    make(read("car", 8))
    path = folder / "mix.json"
    path.write_text(path.read_text().replace("b.jpg", "a.jpg"))
    source = partial(read_conversations, InputSettings(str(path), images=(folder,)))
    assert make(source).tally.kept == 8


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
    server = serve(lambda body, number: Answer("late", delay=9 if len(server.asked) > 60 else 0.0))

    class Failing:
        workers = 1

        def run(self, jobs, factory, folder):
            next(iter(jobs))
            time.sleep(0.3)
            raise ValueError("no such model")

    extraction = ExtractionSettings(settings(server, concurrency=4, timeout=60), folder / "a.sqlite")
    started = time.monotonic()
    with pytest.raises(ValueError, match="no such model"):
        run_augmentation(
            read(), whole_image, RunSettings(folder / "fivl", shard_size=16), engine=Failing(), extraction=extraction
        )
    assert time.monotonic() - started < 3
    assert len(server.asked) <= 60 + 4


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


def test_a_model_that_fails_for_some_samples_can_be_asked_again(tmp_path, serve, settings, whole):
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
    assert rows(tmp_path / "fivl") == whole


@pytest.mark.parametrize(
    ("format", "problem"), [("json", "is not valid JSON"), ("text", "lists no words of the answer")]
)
def test_unusable_replies_fail_their_samples_and_are_asked_again(tmp_path, serve, settings, whole, format, problem):
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
    assert rows(tmp_path / "fivl") == whole
    # The good replies of the first run were kept.
    usable = [key for key, times in server.asked.items() if "circle" not in json.loads(key)[1]["content"]]
    assert {server.asked[key] for key in usable} == {1}


def test_a_spent_budget_leaves_a_dataset_of_what_was_paid(tmp_path, serve, settings, whole):
    server = serve(names_the_thing)

    def run(**budget):
        extraction = ExtractionSettings(settings(server, concurrency=2, **budget), tmp_path / "a.sqlite")
        return run_augmentation(scenes(70), SCENES, RunSettings(tmp_path / "fivl", shard_size=8), extraction=extraction)

    stopped = run(max_requests=60)
    assert "budget of 60 requests" in stopped.stopped
    assert 0 < stopped.tally.kept < 70
    assert rows(tmp_path / "fivl") == [row for row in whole if row["id"] in {r["id"] for r in rows(tmp_path / "fivl")}]
    assert "Not complete" in (tmp_path / "fivl" / "report.html").read_text()
    assert sum(server.asked.values()) == 60
    assert run().tally.kept == 70
    assert set(server.asked.values()) == {1}
    assert rows(tmp_path / "fivl") == whole


def test_a_budget_too_small_for_one_shard_says_so(tmp_path, serve, settings):
    extraction = ExtractionSettings(settings(serve(names_the_thing), max_requests=1), tmp_path / "a.sqlite")
    with pytest.raises(ValueError, match="budget of 1 requests is spent"):
        run_augmentation(scenes(70), SCENES, RunSettings(tmp_path / "fivl"), extraction=extraction)


def test_nothing_but_failures_stops_early(tmp_path):
    entries = [{"id": i, "image": "a.jpg", "conversations": [{"from": "human", "value": "What?"},
               {"from": "gpt", "value": "A car."}]} for i in range(500)]  # fmt: skip
    (tmp_path / "mix.json").write_text(json.dumps(entries))
    source = InputSettings(str(tmp_path / "mix.json"), images=(tmp_path,))
    with pytest.raises(ValueError, match=r"all of the first 128 samples failed.*the image is missing.*a\.jpg"):
        run_augmentation(partial(read_conversations, source), SCENES, RunSettings(tmp_path / "fivl"))


def test_no_row_at_all_says_why(tmp_path):
    with pytest.raises(ValueError, match="none of 0 samples became a row: the input is empty"):
        run_augmentation(lambda: iter(()), SCENES, RunSettings(tmp_path / "fivl"))


def test_a_full_disk_is_a_clear_error_and_finished_shards_stay(tmp_path, whole):
    """A limit on the size of files stands in for the full disk: the second shard is larger than it."""
    command = [*_command(tmp_path), "--limit", "70", "--shard-size", "8", "--extractor", "offline", "--workers", "1"]
    small = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (16_000, 16_000))
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=small)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "fivl").exists()
    assert not list(work_folder(tmp_path / "fivl").glob("shards/.*"))
    subprocess.run(command, capture_output=True, check=True)
    assert rows(tmp_path / "fivl") == whole


def _command(folder):
    output = str(folder / "fivl")
    return [sys.executable, "-m", "fivl_hf", "augment", "--input", "scenes", "--grounder", "scenes", "--output", output]


def test_reports_survive_being_written(tmp_path):
    run_augmentation(scenes(4), SCENES, RunSettings(tmp_path / "fivl"))
    report = read_report(work_folder(tmp_path / "fivl") / "shards", 0)
    assert report.tally.kept == 4
    assert report.counts["expressions per turn"] == {"1": 8}
    assert read_report(tmp_path, 0) is None


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_asks_estimates_and_batches(tmp_path, serve, capsys, whole):
    server = serve(names_the_thing)
    command = [
        "augment",
        "--input",
        "scenes",
        "--limit",
        "70",
        "--grounder",
        "scenes",
        "--output",
        str(tmp_path / "fivl"),
    ]
    ask = [*command, "--model", "m", "--base-url", server.url, "--shard-size", "8", "--workers", "1"]
    prices = ["--input-price", "2.5", "--output-price", "10"]
    assert main([*ask, *prices, "--dry-run"]) == 0
    estimated = capsys.readouterr().out
    requests = int(estimated.split(" requests to pay for, 0 answered already")[0])
    assert "through --batch-api" in estimated
    assert not server.asked
    assert main([*ask, "--batch-api", "--poll", "0.01"]) == 0
    told = capsys.readouterr().out
    assert "batch-0: completed" in told
    assert "0 requests (0 failed)" in told
    assert requests == len(server.asked) < 140
    assert rows(tmp_path / "fivl") == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "nothing.json", "--format", "llava"], "there is no file nothing.json"),
        (["--input", "nothing.json"], "there is no file nothing.json"),
        (["--input", "scenes", "--limit", "3", "--grounder", "grounded-sam", "--device", "cuda"], "cannot be used"),
        (["--input", "scenes"], "needs --limit"),
        (["--input", "scenes", "--limit", "3", "--extractor", "openai"], "name the language model with --model"),
        (["--input", "scenes", "--limit", "3", "--dry-run"], "the offline extractor asks nobody"),
        (["--input", "scenes", "--limit", "3", "--grounder", "annotations"], "needs the annotation files"),
        (
            ["--input", "scenes", "--limit", "3", "--grounder", "grounded-sam", "--detector", "/none"],
            "no detector folder",
        ),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(tmp_path, capsys, options, message):
    command = [
        "augment",
        "--output",
        str(tmp_path / "fivl"),
        "--extractor",
        "offline",
        "--grounder",
        "scenes",
        *options,
    ]
    assert main(command) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("fivl: ")
    assert message in error


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
