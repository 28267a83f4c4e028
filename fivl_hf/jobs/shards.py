"""Work cut into shards: a shard's files are written completely or not at all, and say which samples they come from."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from fivl_hf.files.atomic import write_atomically
from fivl_hf.files.json_stream import parse_json
from fivl_hf.jobs.outcomes import Failure, Outcome, Tally, Worker, as_counter
from fivl_hf.storage import parquet_rows, write_valid_rows

__all__ = ["Job", "Problem", "ShardReport", "cut", "read_report", "rows_file", "run_job"]


@dataclass(frozen=True)
class Job:
    """A shard's samples, all of one split; ``digest`` changes when what was read changes."""

    number: int
    samples: tuple[Any, ...]
    digest: str
    split: str = "train"


@dataclass(frozen=True)
class Problem:
    """A sample that became no row; ``kind`` is "dropped" or "failed"."""

    id: str
    kind: str
    reason: str
    detail: str


@dataclass
class ShardReport:
    """The outcomes of a shard's samples, counted.

    Attributes:
        parts: the parts of the dataset that its rows belong to.
        left_out: see :meth:`fivl_hf.jobs.outcomes.Outcome.left_out`.
        counts: see :meth:`fivl_hf.jobs.outcomes.Outcome.counts`.
        seconds: that the worker spent on it.
    """

    number: int
    digest: str
    split: str = "train"
    parts: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    problems: list[Problem] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Add what became of one sample."""
        self.tally.count(outcome.result)
        self.left_out += outcome.left_out()
        for heading, counts in outcome.counts().items():
            self.counts.setdefault(heading, Counter()).update(counts)
        if not isinstance(outcome.result, dict):
            kind = "failed" if isinstance(outcome.result, Failure) else "dropped"
            self.problems.append(Problem(outcome.id, kind, outcome.result.reason, outcome.result.detail))

    def to_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "tally": self.tally.to_dict(),
            "problems": [asdict(problem) for problem in self.problems],
            "counts": {heading: dict(counts) for heading, counts in self.counts.items()},
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "ShardReport":
        """Raises KeyError or TypeError for the fields of something else."""
        read = {
            "tally": Tally.from_dict(fields["tally"]),
            "problems": [Problem(**problem) for problem in fields["problems"]],
            "counts": {heading: as_counter(counts) for heading, counts in fields["counts"].items()},
            "seconds": float(fields["seconds"]),
        }
        return cls(**{**fields, **read})


def cut(
    splits: Mapping[str, Callable[[], Iterable[Any]]], size: int, digest: Callable[[Sequence[Any]], str]
) -> Iterator[Job]:
    """Cut the samples of each split into jobs of ``size``, numbered from 0.

    Args:
        digest: of a job's samples; changes when what was read changes.
    """
    number = 0
    for split, samples in splits.items():
        remaining = iter(samples())
        while group := tuple(islice(remaining, size)):
            yield Job(number, group, digest(group), split)
            number += 1


def run_job(job: Job, worker: Worker, folder: Path) -> ShardReport:
    """Make a shard's rows and write them, and last the report that marks the shard as done.

    Raises:
        OSError: the files cannot be written; no part of the shard counts as done then.
    """
    started = time.monotonic()
    report = ShardReport(job.number, job.digest, job.split)
    report_file = _report_file(folder, job.number)
    # Without a report the shard is not done, whatever files of an earlier input still lie there.
    report_file.unlink(missing_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for outcome in worker.make(job.samples):
        report.add(outcome)
        if isinstance(outcome.result, dict):
            rows.setdefault(outcome.part, []).append(outcome.result)
    report.parts = sorted(rows)
    for part in report.parts:
        write_valid_rows(rows_file(folder, job.number, part), rows[part])
    report.seconds = time.monotonic() - started
    write_atomically(report_file, json.dumps(report.to_dict()))
    return report


def rows_file(folder: Path, number: int, part: str = "") -> Path:
    """Return the path of a shard's rows of one part (Parquet); a part without rows has no file.

    Its name keeps ``load_dataset`` from taking unfinished work for a dataset.
    """
    return folder / (f"{number:06d}-{part}.rows" if part else f"{number:06d}.rows")


def read_report(folder: Path, number: int) -> ShardReport | None:
    """Read the report of a shard that is done; None for one that is not, or whose files are missing or damaged."""
    try:
        report = ShardReport.from_dict(parse_json(_report_file(folder, number).read_bytes()))
        for part in report.parts:
            parquet_rows(rows_file(folder, number, part))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        # Made again, it is as it was.
        return None
    return report


def _report_file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.report"
