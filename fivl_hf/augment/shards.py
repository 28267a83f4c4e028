"""Work cut into shards: a shard's files are written whole or not at all, and say which samples they come from."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from fivl_hf.augment.inputs.conversations import Conversation, Failure, Picture, PictureFile, Record, StoredPicture
from fivl_hf.augment.rows import Outcome, RejectedExpression, RowMaker, Sample, Tally
from fivl_hf.files.atomic import write_atomically
from fivl_hf.storage import parquet_rows, write_valid_rows
from fivl_hf.supervision import unusable_because

__all__ = [
    "COVERAGE_BINS",
    "NO_TARGET",
    "USABLE",
    "Job",
    "Problem",
    "ShardReport",
    "cut",
    "read_report",
    "rows_file",
    "run_job",
]

COVERAGE_BINS = 20
USABLE, NO_TARGET = "usable", "rows without a usable expression"


@dataclass(frozen=True)
class Job:
    """A shard's samples, all of one split; ``digest`` changes when what was read changes."""

    number: int
    samples: tuple[Sample, ...]
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
    """What became of a shard's samples.

    Attributes:
        rejected: (id, turn, text, reason) of every expression left out.
        turn_counts: how many turns have so many key expressions (of the rows kept).
        coverage: how many masks cover so much of their picture, in ``COVERAGE_BINS`` equal bins from 0 to 1.
        targets: how many key expressions of conversations can supervise patches ("usable"), and how many cannot, by
            reason; how many rows have none that can (``NO_TARGET``).
        parts: the parts of the dataset that its rows belong to.
        seconds: spent on it, without asking a language model.
    """

    number: int
    digest: str
    split: str = "train"
    parts: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    problems: list[Problem] = field(default_factory=list)
    rejected: list[tuple[str, int, str, str]] = field(default_factory=list)
    turn_counts: Counter[int] = field(default_factory=Counter)
    coverage: list[int] = field(default_factory=lambda: [0] * COVERAGE_BINS)
    targets: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "tally": self.tally.to_dict(),
            "problems": [asdict(problem) for problem in self.problems],
            "turn_counts": dict(self.turn_counts),
            "targets": dict(self.targets),
        }


def cut(splits: Mapping[str, Callable[[], Iterable[Record]]], size: int) -> Iterator[Job]:
    """The records of each split as jobs of ``size`` samples, numbered from 0."""
    number = 0
    for split, records in splits.items():
        remaining = iter(records())
        while group := list(islice(remaining, size)):
            yield Job(number, tuple(Sample(record) for record in group), _digest(group), split)
            number += 1


def _digest(group: Sequence[Record]) -> str:
    """Of everything that was read; of pictures in files, which are not read yet, name, size and time."""
    content = hashlib.sha256()
    for record in group:
        if isinstance(record, Conversation):
            said = [record.messages, record.answers, record.category, record.source]
            pictures = [(each.name, _picture_digest(each)) for each in record.images]
            content.update(json.dumps([record.id, said, pictures]).encode() + repr(record.evidence).encode())
        else:
            content.update(json.dumps([record.id, record.reason, record.detail]).encode())
    return content.hexdigest()


def _picture_digest(picture: Picture) -> str:
    if isinstance(picture, StoredPicture):
        return hashlib.sha256(picture.data).hexdigest()
    return picture.version() if isinstance(picture, PictureFile) else ""


def run_job(job: Job, maker: RowMaker, folder: Path) -> ShardReport:
    """Make a shard's rows and write them, and last the report that marks the shard as done.

    Raises:
        OSError: the files cannot be written; no part of the shard counts as done then.
    """
    started = time.monotonic()
    report = ShardReport(job.number, job.digest, job.split)
    report_file = _report_file(folder, job.number)
    report_file.unlink(missing_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for outcome in maker.make(job.samples):
        _note(report, outcome)
        if isinstance(outcome.result, dict):
            rows.setdefault(outcome.part, []).append(outcome.result)
    report.parts = sorted(rows)
    for part in report.parts:
        write_valid_rows(rows_file(folder, job.number, part), rows[part])
    report.seconds = time.monotonic() - started
    write_atomically(report_file, json.dumps(report.to_dict()))
    return report


def rows_file(folder: Path, number: int, part: str = "") -> Path:
    """Where a shard's rows of one part are, in Parquet; there is no file without rows.

    Named so that nobody's ``load_dataset`` takes unfinished work for a dataset.
    """
    return folder / (f"{number:06d}-{part}.rows" if part else f"{number:06d}.rows")


def read_report(folder: Path, number: int) -> ShardReport | None:
    """The report of a shard that is done; None for one that is not, or whose files are missing or damaged."""
    try:
        report = _read(_report_file(folder, number))
        for part in report.parts:
            parquet_rows(rows_file(folder, number, part))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        # Made again, it is as it was.
        return None
    return report


def _read(path: Path) -> ShardReport:
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    tally = raw.pop("tally")
    raw["tally"] = Tally(tally["read"], tally["kept"], Counter(tally["dropped"]), Counter(tally["failed"]))
    raw["problems"] = [Problem(**problem) for problem in raw["problems"]]
    raw["rejected"] = [tuple(item) for item in raw["rejected"]]
    raw["turn_counts"] = Counter({int(count): turns for count, turns in raw["turn_counts"].items()})
    raw["targets"] = Counter(raw.get("targets", {}))
    return ShardReport(**raw)


def _report_file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.report"


def _note(report: ShardReport, outcome: Outcome) -> None:
    """Add one outcome to a shard's report."""
    report.tally.count(outcome)
    report.rejected += [_entry(outcome.id, item) for item in outcome.rejected]
    if not isinstance(outcome.result, dict):
        kind = "failed" if isinstance(outcome.result, Failure) else "dropped"
        report.problems.append(Problem(outcome.id, kind, outcome.result.reason, outcome.result.detail))
        return
    row = outcome.result
    turns = len([m for m in row.get("messages", ()) if m["role"] == "assistant"]) or 1
    per_turn = Counter(expression["turn"] for expression in row["key_expressions"])
    report.turn_counts.update(per_turn[turn] for turn in range(turns))
    for share in outcome.coverage:
        report.coverage[min(int(share * COVERAGE_BINS), COVERAGE_BINS - 1)] += 1
    if "messages" in row:
        expressions = zip(row["key_expressions"], outcome.coverage, strict=True)
        found = Counter(unusable_because(each["keywords"], share) or USABLE for each, share in expressions)
        report.targets.update(found)
        report.targets[NO_TARGET] += not found[USABLE]


def _entry(id: str, item: RejectedExpression) -> tuple[str, int, str, str]:
    return id, item.turn, item.text, item.reason
