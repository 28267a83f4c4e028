"""The whole run: read, ask, ground in shards, resume, put together. Kept + dropped + failed = read, always."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from fivl_hf.augment.ahead import AskedAhead
from fivl_hf.augment.conversations import Conversation, Drop, Failure
from fivl_hf.augment.engines import LocalEngine, ToolFactory
from fivl_hf.augment.llm import ChatSettings, ServiceError, Spent
from fivl_hf.augment.rows import Tally
from fivl_hf.augment.shards import Job, ShardReport, cut, read_report, rows_file
from fivl_hf.storage import assemble_dataset, require_own_folder

__all__ = ["Asking", "RunResult", "RunSettings", "run_augmentation", "work_folder"]

Record = Conversation | Drop | Failure
# Nothing worked so far, and it is not a matter of a few samples.
_HOPELESS = 100


class Engine(Protocol):
    """Runs jobs somewhere; see :mod:`fivl_hf.augment.engines`."""

    @property
    def workers(self) -> int: ...

    def run(self, jobs: Iterable[Job], factory: ToolFactory, folder: Path) -> Iterator[ShardReport]: ...


@dataclass(frozen=True)
class Asking:
    """A language model to ask for key expressions, and where its answers are kept."""

    settings: ChatSettings
    cache: Path


@dataclass(frozen=True)
class RunSettings:
    """How to run.

    Attributes:
        output: folder of the dataset. What is under way is in ``work_folder(output)``.
        split: what the dataset's split is called.
        identity: all that decides what rows look like; a run is only resumed with the same.
        shard_size: samples that are lost at most when the run is killed.
        restart: begin anew; answers of language models are kept.
        retry_failed: run shards again in which samples failed.
        total: how many samples there are, for the progress bar.
    """

    output: Path
    split: str = "train"
    identity: dict[str, Any] = field(default_factory=dict)
    shard_size: int = 64
    restart: bool = False
    retry_failed: bool = False
    total: int | None = None
    title: str = "FiVL"


@dataclass(frozen=True)
class RunResult:
    """What a run came to; ``stopped`` says why it is not complete."""

    tally: Tally
    spent: Spent | None
    stopped: str | None = None

    def to_dict(self) -> dict[str, Any]:
        spent = asdict(self.spent) if self.spent else None
        return {"tally": self.tally.to_dict(), "spent": spent, "stopped": self.stopped}


def work_folder(output: Path) -> Path:
    """Where shards, answers and settings of a run are kept, so that it can go on."""
    return output.with_name(f"{output.name}.work")


def run_augmentation(
    records: Callable[[], Iterator[Record]],
    factory: ToolFactory,
    settings: RunSettings,
    *,
    engine: Engine = LocalEngine(),  # noqa: B008 (frozen)
    asking: Asking | None = None,
) -> RunResult:
    """Make a dataset of FiVL rows in ``settings.output``, going on where an earlier run was interrupted.

    Args:
        records: reads the input from its beginning.
        factory: makes a worker's extractor and grounder; must be picklable.
        asking: a language model, asked ahead of the workers; without one, the workers' own extractor is used.

    Raises:
        ValueError: settings that differ from those of the run to go on with, no row at all, or every sample failing.
        FileExistsError: the output folder holds something else.
        OSError: a shard cannot be written; finished shards are kept.
    """
    require_own_folder(settings.output.resolve())
    work = work_folder(settings.output.resolve())
    shards = work / "shards"
    with _owned(work):
        _begin(work, settings)
        seen: list[int] = []
        total = Tally()
        rejected: Counter[str] = Counter()
        jobs = _unfinished(cut(records(), settings.shard_size), shards, settings.retry_failed, seen)
        ahead = AskedAhead(jobs, asking.settings, asking.cache, _ahead(asking, engine, settings)) if asking else None
        with tqdm(total=settings.total, unit="sample", desc="augment") as bar:
            for report in _both(jobs, ahead, engine, factory, shards, seen):
                _add(total, report.tally)
                rejected.update(reason for *_, reason in report.rejected)
                _show(bar, total, report, ahead)
                _give_up_if_hopeless(total, report)
        stopped = ahead.stopped if ahead else None
        spent = ahead.spent if ahead else None
        result = RunResult(total, spent, str(stopped) if stopped else None)
        if not total.kept:
            raise _nothing_kept(result, rejected)
        _assemble(shards, sorted(seen), settings, result)
    return result


def _both(
    jobs: Iterator[Job],
    ahead: AskedAhead | None,
    engine: Engine,
    factory: ToolFactory,
    shards: Path,
    seen: list[int],
) -> Iterator[ShardReport]:
    """Reports of shards run now, then of those found finished."""
    fresh = set()
    for report in engine.run(ahead or jobs, factory, shards):
        fresh.add(report.number)
        yield report
    for number in seen:
        if number not in fresh and (known := read_report(shards, number)):
            yield known


def _unfinished(jobs: Iterator[Job], shards: Path, retry_failed: bool, seen: list[int]) -> Iterator[Job]:
    """Jobs whose shard is not there yet, or was made of other samples; every job's number goes to ``seen``."""
    for job in jobs:
        seen.append(job.number)
        known = read_report(shards, job.number)
        if known is None or known.digest != job.digest or (retry_failed and known.tally.failed):
            yield job


def _ahead(asking: Asking, engine: Engine, settings: RunSettings) -> int:
    """Jobs to ask for ahead: enough for all requests at a time, and for every worker to find one waiting."""
    return 2 * (engine.workers + asking.settings.concurrency // settings.shard_size + 1)


def _begin(work: Path, settings: RunSettings) -> None:
    """Make the work folder, or check that it belongs to the same run."""
    shards, file = work / "shards", work / "settings.json"
    if settings.restart and shards.exists():
        shutil.rmtree(shards)
        file.unlink(missing_ok=True)
    shards.mkdir(parents=True, exist_ok=True)
    for leftover in shards.glob(".*"):
        leftover.unlink()
    identity = {**settings.identity, "shard_size": settings.shard_size}
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
        if changed:
            shown = "; ".join(f"{key}: {before.get(key)!r}, now {identity.get(key)!r}" for key in changed)
            raise ValueError(
                f"{work} holds a run with other settings ({shown}): choose another --output, or --restart to begin "
                "anew (answers of language models are kept)"
            )
        return
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(identity, indent=2), encoding="utf-8")
    os.replace(temporary, file)


@contextmanager
def _owned(work: Path) -> Iterator[None]:
    """Two runs at a time in one folder would undo each other."""
    import fcntl

    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another run is at work in {work}") from error
        yield


def _add(total: Tally, shard: Tally) -> None:
    total.read += shard.read
    total.kept += shard.kept
    total.dropped += shard.dropped
    total.failed += shard.failed


def _show(bar: Any, total: Tally, report: ShardReport, ahead: AskedAhead | None) -> None:
    counts: dict[str, Any] = {
        "kept": total.kept,
        "dropped": total.dropped.total(),
        "failed": total.failed.total(),
    }
    if ahead:
        counts["requests"] = ahead.spent.requests
    bar.set_postfix(counts, refresh=False)
    bar.update(report.tally.read)


def _give_up_if_hopeless(total: Tally, report: ShardReport) -> None:
    if total.read >= _HOPELESS and total.failed.total() == total.read:
        problem = report.problems[-1]
        raise ValueError(
            f"all of the first {total.read} samples failed; the last was {problem.id!r}: "
            f"{problem.reason} ({problem.detail})"
        )


def _nothing_kept(result: RunResult, rejected: Counter[str]) -> Exception:
    if result.stopped:
        return ServiceError(result.stopped)
    tally = result.tally
    shown = _counts(tally.dropped + tally.failed) or "the input is empty"
    expressions = f" (expressions: {_counts(rejected)})" if rejected else ""
    return ValueError(f"none of {tally.read} samples became a row: {shown}{expressions}")


def _counts(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(3))


def _assemble(shards: Path, numbers: list[int], settings: RunSettings, result: RunResult) -> None:
    """The dataset folder with its report, from all shards that are done."""
    # It draws: workers that import this module need not load a plotting library.
    from fivl_hf.augment.report import write_report

    done = [number for number in numbers if read_report(shards, number)]
    files = [path for number in done if (path := rows_file(shards, number)).is_file()]
    tally = result.tally
    counted = tally.kept + tally.dropped.total() + tally.failed.total()
    if counted != tally.read:
        raise RuntimeError(f"{tally.read} samples were read, but {counted} counted")
    description = (
        f"Made by `fivl augment`: of {tally.read:,} samples, {tally.kept:,} became rows; `report.html` shows why the "
        "others did not, and some of the rows."
    )
    assemble_dataset(
        settings.output,
        {settings.split: files},
        title=settings.title,
        description=description,
        add=lambda folder: write_report(
            folder,
            (report for number in done if (report := read_report(shards, number))),
            files,
            {**result.to_dict(), "settings": settings.identity},
        ),
    )
