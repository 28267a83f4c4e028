"""Runs that can be killed at any moment: shards that are done are taken as they are, the others are made."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fivl_hf.files.atomic import write_json
from fivl_hf.files.locks import locked
from fivl_hf.files.results import changed_settings, read_settings
from fivl_hf.jobs.engines import WorkerFactory
from fivl_hf.jobs.outcomes import Tally
from fivl_hf.jobs.shards import Job, ShardReport, read_report, rows_file

__all__ = ["Engine", "Progress", "UnfinishedJobs", "run_jobs", "shard_folder"]

# Nothing worked so far, and it is not a matter of a few samples.
_HOPELESS = 100


class Engine(Protocol):
    """Runs jobs somewhere; see :mod:`fivl_hf.jobs.engines`."""

    @property
    def workers(self) -> int: ...

    def run(self, jobs: Iterable[Job], factory: WorkerFactory, folder: Path) -> Iterator[ShardReport]: ...


@dataclass
class Progress:
    """The state of a run: its tally and the shards that are done.

    Attributes:
        folder: of the shards.
        numbers: of the shards that are done.
        examples: of each reason why samples failed, the detail of one of them.
        counts: see :class:`fivl_hf.jobs.shards.ShardReport`.
    """

    folder: Path
    tally: Tally = field(default_factory=Tally)
    numbers: list[int] = field(default_factory=list)
    examples: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, report: ShardReport) -> None:
        """Add a shard that is done."""
        self.numbers.append(report.number)
        self.tally.add(report.tally)
        for heading, counts in report.counts.items():
            self.counts.setdefault(heading, Counter()).update(counts)
        for problem in report.problems:
            if problem.kind == "failed":
                self.examples.setdefault(problem.reason, problem.detail)

    def merge(self, other: "Progress") -> None:
        """Add what another part of the run has come to."""
        self.numbers += other.numbers
        self.tally.add(other.tally)
        for heading, counts in other.counts.items():
            self.counts.setdefault(heading, Counter()).update(counts)
        self.examples = {**other.examples, **self.examples}

    def reports(self) -> Iterator[ShardReport]:
        """Return the reports of all shards that are done, in order."""
        return (report for number in sorted(self.numbers) if (report := read_report(self.folder, number)))

    def files(self) -> dict[str, dict[str, list[Path]]]:
        """Return the files of rows, by split and part."""
        files: dict[str, dict[str, list[Path]]] = {}
        for report in self.reports():
            for part in report.parts:
                files.setdefault(report.split, {}).setdefault(part, []).append(
                    rows_file(self.folder, report.number, part)
                )
        return files


@contextmanager
def shard_folder(work: Path, identity: Mapping[str, Any], *, restart: bool) -> Iterator[Path]:
    """Hold a work folder for a run that may have been interrupted there before; gives the folder of its shards.

    Args:
        identity: all that decides what rows look like; shards of a run with another are not mixed in.
        restart: begin again.

    Raises:
        FolderInUseError: another process works there.
        ValueError: the folder holds shards of a run with another identity.
    """
    shards, file = work / "shards", work / "settings"
    with locked(work):
        if restart and shards.exists():
            shutil.rmtree(shards)
            file.unlink(missing_ok=True)
        shards.mkdir(parents=True, exist_ok=True)
        # Temporary files of a process that was killed.
        for leftover in shards.glob(".*"):
            if leftover.is_file():
                leftover.unlink()
        # Settings bind once there is something made with them.
        if not file.is_file() or not any(shards.iterdir()):
            write_json(file, identity)
        elif changes := changed_settings(read_settings(file), identity):
            raise ValueError(
                f"{work} holds a run with other settings ({'; '.join(changes)}): choose another --output, or --restart "
                "to begin again (caches are kept)"
            )
        yield shards


class UnfinishedJobs:
    """Iterates over the jobs that are still to do, in order.

    Args:
        folder: of the shards.
        retry_failed: shards in which samples failed are to be done again.
        bar: a progress bar, whose total leaves out what is done already.

    Attributes:
        done: what was done already, of the jobs passed so far. Another thread may be reading the jobs: look at it
            when they are at their end.
    """

    def __init__(self, jobs: Iterator[Job], folder: Path, *, retry_failed: bool, bar: Any) -> None:
        self.done = Progress(folder)
        self._jobs, self._retry_failed, self._bar = jobs, retry_failed, bar

    def __iter__(self) -> Iterator[Job]:
        return self

    def __next__(self) -> Job:
        for job in self._jobs:
            known = read_report(self.done.folder, job.number)
            if (
                known is None
                or (known.digest, known.split) != (job.digest, job.split)
                or (self._retry_failed and known.tally.failed)
            ):
                return job
            self.done.add(known)
            if self._bar.total:
                self._bar.total -= known.tally.read
        raise StopIteration


def run_jobs(
    jobs: Iterable[Job],
    factory: WorkerFactory,
    engine: Engine,
    folder: Path,
    *,
    bar: Any,
    more_counts: Callable[[], Mapping[str, int]] = dict,
) -> Progress:
    """Run jobs on an engine and write their shards to a folder.

    Args:
        bar: a progress bar that counts samples.
        more_counts: gives further counts to be shown by the progress bar.

    Returns:
        What the jobs have come to.

    Raises:
        ValueError: not one of the first 100 samples became a row.
        Exception: as ``engine.run``.
    """
    progress = Progress(folder)
    tally = progress.tally
    for report in engine.run(jobs, factory, folder):
        progress.add(report)
        shown = {"kept": tally.kept, "dropped": tally.dropped.total(), "failed": tally.failed.total(), **more_counts()}
        bar.set_postfix(shown, refresh=False)
        bar.update(report.tally.read)
        if tally.read >= _HOPELESS and tally.failed.total() == tally.read:
            problem = report.problems[-1]
            raise ValueError(
                f"all of the first {tally.read} samples failed; the last was {problem.id!r}: "
                f"{problem.reason} ({problem.detail})"
            )
    return progress
