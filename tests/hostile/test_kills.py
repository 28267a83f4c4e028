"""kill -9 at any moment: nothing is lost, nothing paid twice, and the next run ends as if it had not happened."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest
from limits import killed_at
from owned_folders import NEW, OLD, contents, write
from scripted_server import Answer, asked_answer
from synthetic_release import make_release

from fivl_hf.augment.extractors.chat import expression_request
from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.pipeline import ExtractionSettings, RunSettings, run_augmentation
from fivl_hf.augment.prefetch import askable_turns
from fivl_hf.augment.tools import ToolSettings
from fivl_hf.building.run import BuildSettings, build_dataset, builder_class
from fivl_hf.files.managed_folders import work_folder
from fivl_hf.llm.answers import AnswerCache
from fivl_hf.llm.batches import answer_by_batches
from fivl_hf.schema import Turn
from fivl_hf.storage import load_rows

SCENES = ToolSettings(grounder="scenes")
CHANGES = ("replace", "rename", "unlink", "rmdir", "mkdir")
KILLS = 20


def scenes(count):
    return partial(read_conversations, InputSettings("scenes", limit=count))


def rows(folder, split="train"):
    return load_rows(folder, split).to_list()


def names_the_thing(body, number):
    """What a good model says of "It is a red circle." and "There is a red circle."."""
    words = asked_answer(body).rstrip(".").split()
    return Answer(json.dumps({"expressions": [" ".join(words[-2:])]}), delay=0.02)


def test_augment_pays_once_and_gives_the_same_rows(tmp_path, serve, settings):
    """Killed at random moments of the whole run, and once while the dataset is put together."""
    concurrency, count = 4, 120
    server = serve(names_the_thing)
    output = tmp_path / "fivl"
    questions = {turn for record in scenes(count)() for turn in askable_turns(record)}
    extraction = ExtractionSettings(settings(server, concurrency=concurrency), work_folder(output) / "answers.sqlite")

    def augment(folder=output, **options):
        return run_augmentation(scenes(count), SCENES, RunSettings(folder, shard_size=8), **options)

    draw = random.Random(0)
    for moment in sorted(draw.sample(range(5, len(questions) - 5), KILLS)):
        killed_when(lambda: augment(extraction=extraction), lambda moment=moment: len(server.asked) >= moment)
    assert not output.exists()
    killed_when(lambda: augment(extraction=extraction), (output / ".fivl-writing").exists)
    assert augment(extraction=extraction).tally.kept == count
    augment(tmp_path / "other" / "fivl")
    assert rows(output) == rows(tmp_path / "other" / "fivl")
    assert {path.name for path in work_folder(output).iterdir()} == {"answers.sqlite", "settings", "shards"}
    assert len(server.asked) == len(questions)
    assert sum(server.asked.values()) - len(server.asked) <= (KILLS + 1) * concurrency


def killed_when(work, happened):
    """Run ``work`` in a child and kill it as soon as something has happened."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    while not happened():
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the run ended before it could be killed"
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_batches_are_submitted_and_paid_once(tmp_path, serve, settings):
    """Killed at random accesses to the answer cache, among them those between submitting and knowing the batch."""
    asked = [expression_request(Turn("What?", f"This is number{i}."), "m") for i in range(12)]

    def answer(folder, server):
        cache = AnswerCache(folder / "answers.sqlite")
        answer_by_batches(asked, settings(server), cache, poll_seconds=0.01, tell=str)
        return len(cache)

    draw, killed = random.Random(0), 0
    for number in range(4 * KILLS):
        server = serve()
        work = partial(answer, tmp_path / str(number), server)
        killed += killed_at(draw.randint(1, 60), work, AnswerCache, ("_execute",))
        assert work() == len(asked), number
        # The first request is sent directly, to learn what the server takes.
        assert len(server.batches) <= 1, number
        assert sum(server.asked.values()) <= len(asked) + 1, number
        if killed == KILLS:
            return
    raise AssertionError(f"killed only {killed} times")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    return make_release(folder / "files", 16, canary=folder / "canary").folder


def test_build_goes_on_where_it_was(tmp_path, release, monkeypatch):
    """Killed at random changes to the disk; without the report's drawings, which take most of the time."""
    monkeypatch.setattr("fivl_hf.augment.report.draw_rows", lambda *_: [])
    monkeypatch.setattr("fivl_hf.augment.report.write_report", lambda folder, *_: (folder / "report.json").touch())
    monkeypatch.setattr("fivl_hf.building.run._SHARD", 4)

    def build(output):
        builder = builder_class("fivl_instruct")(cache_dir=str(tmp_path / "cache"), data_dir=str(release))
        return build_dataset(builder, BuildSettings(output))

    build(tmp_path / "whole")
    whole = rows(tmp_path / "whole")
    draw = random.Random(0)
    killed = finished = 0
    while killed < KILLS:
        output = tmp_path / str(finished) / "fivl-instruct"
        if killed_at(draw.randint(1, 60), partial(build, output), os, CHANGES):
            killed += 1
        else:
            finished += 1
            assert rows(output) == whole
    build(output)
    assert rows(output) == whole


def test_an_index_that_was_cut_off_is_made_anew(tmp_path, release):
    """Of the archive, and of the annotations: a whole one takes its place in one step, and nothing is left over."""

    def build():
        builder = builder_class("fivl_instruct")(cache_dir=str(tmp_path / "cache"), data_dir=str(release))
        return build_dataset(builder, BuildSettings(tmp_path / "out"))

    assert killed_at(1, build, sqlite3, ("connect",))
    build()
    leftover = [path.name for path in work_folder(tmp_path / "out").rglob("*") if ".part" in path.name]
    assert not leftover


def test_workers_end_with_their_killed_parent(tmp_path):
    output = tmp_path / "fivl"
    command = [sys.executable, "-m", "fivl_hf", "augment", "--input", "scenes", "--grounder", "scenes"]
    command += ["--limit", "100000", "--extractor", "offline", "--workers", "2", "--output", str(output)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((work_folder(output) / "shards").glob("*.report")):
        time.sleep(0.05)
        assert running.poll() is None
    workers = psutil.Process(running.pid).children(recursive=True)
    assert len(workers) >= 2
    running.kill()
    running.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


EDITED = "old, with my notes"
THEIRS = {"thesis.txt": "years of work", "data/mine.txt": "m", "pictures/mine.jpg": "m"}


@pytest.mark.parametrize("theirs", [{}, THEIRS, {"README.md": EDITED}])
def test_a_folder_killed_at_every_step_loses_nothing(tmp_path, theirs):
    step, killed = 0, True
    while killed:
        step += 1
        folder = tmp_path / str(step)
        write(folder, OLD)
        for name, text in theirs.items():
            (folder / name).write_text(text)
        killed = killed_at(step, partial(write, folder, NEW), os, CHANGES)
        found = contents(folder)
        assert set(theirs.values()) <= set(found.values())
        readable = NEW if found["README.md"] == "new" else {**OLD, "README.md": theirs.get("README.md", "old")}
        assert found.items() >= readable.items(), step
        write(folder, NEW)
        kept = {name: text for name, text in contents(folder).items() if ".yours-" not in name}
        assert kept == {**theirs, **NEW}, step
        assert set(theirs.values()) <= set(contents(folder).values())
    # At least the changes that replacing three files takes.
    assert step > 2 * len(NEW)


def test_a_folder_killed_on_its_first_run_goes_on(tmp_path):
    for step in range(1, 9):
        folder = tmp_path / str(step)
        assert killed_at(step, partial(write, folder, OLD), os, CHANGES)
        write(folder, NEW)
        assert contents(folder) == NEW
