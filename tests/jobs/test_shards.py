from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from fivl_hf.jobs.outcomes import Drop, Failure
from fivl_hf.jobs.shards import cut, read_report, rows_file, run_job
from fivl_hf.storage import parquet_rows


@dataclass
class Made:
    id: str
    result: Any
    part: str = ""

    def counts(self):
        return {"letters": Counter(self.id)}

    def left_out(self):
        return [{"id": self.id, "text": "car", "reason": "nothing detected"}] if isinstance(self.result, dict) else []


class Maker:
    def __init__(self, outcomes):
        self.outcomes = outcomes

    def make(self, samples):
        return [self.outcomes[sample] for sample in samples]


@pytest.fixture
def maker(row):
    return Maker(
        {
            "a": Made("a", {**row, "id": "a"}),
            "b": Made("b", Drop("b", "no image", "x.jpg")),
            "c": Made("c", {**row, "id": "c"}, part="extra"),
            "d": Made("d", Failure("d", "broken", "why")),
        }
    )


def test_samples_are_cut_in_order_and_numbered_through():
    jobs = list(
        cut({"train": lambda: "abcde", "test": lambda: "f", "none": lambda: ""}, 2, lambda group: "".join(group))
    )
    assert [(job.number, job.split, job.digest) for job in jobs] == [
        (0, "train", "ab"),
        (1, "train", "cd"),
        (2, "train", "e"),
        (3, "test", "f"),
    ]


def test_a_shard_is_done_when_its_report_is_there(maker, tmp_path):
    (job,) = cut({"train": lambda: "abcd"}, 4, lambda group: "digest")
    assert read_report(tmp_path, 0) is None
    report = run_job(job, maker, tmp_path)
    again = read_report(tmp_path, 0)
    assert again == report
    assert (again.tally.read, again.tally.kept) == (4, 2)
    assert [(problem.id, problem.kind, problem.reason) for problem in again.problems] == [
        ("b", "dropped", "no image"),
        ("d", "failed", "broken"),
    ]
    assert again.counts == {"letters": Counter("abcd")}
    assert [entry["id"] for entry in again.left_out] == ["a", "c"]
    assert again.parts == ["", "extra"]
    assert parquet_rows(rows_file(tmp_path, 0)) == parquet_rows(rows_file(tmp_path, 0, "extra")) == 1


def test_a_shard_without_its_rows_is_not_done(maker, tmp_path):
    (job,) = cut({"train": lambda: "ac"}, 2, lambda group: "digest")
    run_job(job, maker, tmp_path)
    rows_file(tmp_path, 0, "extra").unlink()
    assert read_report(tmp_path, 0) is None


def test_a_shard_that_fails_in_the_middle_is_not_done(maker, tmp_path):
    (job,) = cut({"train": lambda: "ac"}, 2, lambda group: "digest")
    run_job(job, maker, tmp_path)
    del maker.outcomes["c"]
    with pytest.raises(KeyError):
        run_job(job, maker, tmp_path)
    assert read_report(tmp_path, 0) is None
