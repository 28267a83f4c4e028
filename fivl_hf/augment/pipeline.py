"""The whole run: read, ask, ground in shards, resume, put together. Kept + dropped + failed = read, always."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from fivl_hf.augment.ahead import AskedAhead, askable_turns
from fivl_hf.augment.engines import LocalEngine, ToolFactory
from fivl_hf.augment.extractors.chat import expression_request
from fivl_hf.augment.inputs.conversations import Record
from fivl_hf.augment.rows import Tally
from fivl_hf.augment.shards import NO_TARGET, USABLE, Job, ShardReport, cut, read_report, rows_file
from fivl_hf.files.atomic import write_json
from fivl_hf.files.locks import locked
from fivl_hf.files.owned import require_own_folder, work_folder
from fivl_hf.llm.answers import AnswerCache
from fivl_hf.llm.batches import answer_by_batches
from fivl_hf.llm.settings import ChatSettings, ServiceError, Spent
from fivl_hf.storage import assemble_dataset, require_split_name
from fivl_hf.storage.cards import INCOMPLETE, About

__all__ = ["Asking", "RunResult", "RunSettings", "run_augmentation"]

# Nothing worked so far, and it is not a matter of a few samples.
_HOPELESS = 100


class Engine(Protocol):
    """Runs jobs somewhere; see :mod:`fivl_hf.augment.engines`."""

    @property
    def workers(self) -> int: ...

    def run(self, jobs: Iterable[Job], factory: ToolFactory, folder: Path) -> Iterator[ShardReport]: ...


@dataclass(frozen=True)
class Asking:
    """A language model to ask for key expressions.

    Attributes:
        cache: SQLite file of its answers.
        batches: ask through the Batch API; samples that it leaves unanswered wait for the next run.
        poll_seconds: time between two looks at the batches.
    """

    settings: ChatSettings
    cache: Path
    batches: bool = False
    poll_seconds: float = 60.0


@dataclass(frozen=True)
class RunSettings:
    """How to run.

    Attributes:
        output: folder of the dataset. What is under way is in ``work_folder(output)``.
        split: what the dataset's split is called, where the records are of one split.
        identity: all that decides what rows look like; a run is only resumed with the same.
        shard_size: samples that are lost at most when the run is killed.
        restart: begin anew; answers of language models are kept.
        retry_failed: run shards again in which samples failed.
        every_sample: no dataset is made if a sample failed.
        label: of the progress bar.
        total: how many samples there are, for the progress bar.
        card: what the dataset's card says; of its pictures and of the run, more is added.
        pictures: so many rows are drawn for the card.
        about: more for the report on how the dataset was made.
    """

    output: Path
    split: str = "train"
    identity: dict[str, Any] = field(default_factory=dict)
    shard_size: int = 64
    restart: bool = False
    retry_failed: bool = False
    every_sample: bool = False
    label: str = "augment"
    total: int | None = None
    card: About = field(default_factory=lambda: About("FiVL"))
    pictures: int = 0
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        stopped: why it is not complete.
        examples: of each reason why samples failed, the detail of one of them.
        targets: see :class:`fivl_hf.augment.shards.ShardReport`.
    """

    tally: Tally
    spent: Spent | None
    stopped: str | None = None
    examples: dict[str, str] = field(default_factory=dict)
    targets: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        spent = asdict(self.spent) if self.spent else None
        targets = dict(self.targets)
        return {"tally": self.tally.to_dict(), "targets": targets, "spent": spent, "stopped": self.stopped}

    def usable(self) -> str:
        """How many key expressions can supervise patches, in a sentence; empty for benchmarks, which train nothing."""
        counts = Counter(self.targets)
        rows, usable = counts.pop(NO_TARGET, 0), counts.pop(USABLE, 0)
        total = usable + counts.total()
        if not total:
            return ""
        left_out = ", ".join(f"{count:,} × {reason}" for reason, count in counts.most_common() if count)
        told = f" (left out: {left_out}); {_count(rows, 'row has', 'rows have')} none that can" if left_out else ""
        return f"{usable:,} of {total:,} key expressions can supervise patches{told}"

    def failures(self) -> str:
        """The most frequent reasons why samples failed, each with an example; empty if none did."""
        shown = [
            f"{count:,} × {reason}" + (f" ({self.examples[reason]})" if self.examples.get(reason) else "")
            for reason, count in self.tally.failed.most_common(3)
        ]
        return "; ".join(shown)


def run_augmentation(
    records: Callable[[], Iterator[Record]] | Mapping[str, Callable[[], Iterator[Record]]],
    factory: ToolFactory,
    settings: RunSettings,
    *,
    engine: Engine = LocalEngine(),  # noqa: B008 (frozen)
    asking: Asking | None = None,
    prepare: Callable[[], dict[str, Any]] = dict,
) -> RunResult:
    """Make a dataset of FiVL rows in ``settings.output``, going on where an earlier run was interrupted.

    Args:
        records: reads the input from its beginning; or one such function for each split.
        factory: makes what makes the rows in a worker; must be picklable.
        asking: a language model, asked ahead of the workers; without one, the workers' own extractor is used.
        prepare: called when it is sure that the run may go on, before anything is read; gives more for the report.

    Raises:
        ValueError: settings that differ from those of the run to go on with, no row at all, or every sample failing.
        FileExistsError: the output folder holds something else.
        OSError: a shard cannot be written; finished shards are kept.
    """
    splits = records if isinstance(records, Mapping) else {settings.split: records}
    for split in splits:
        require_split_name(split)
    require_own_folder(settings.output.resolve())
    work = work_folder(settings.output.resolve())
    shards = work / "shards"
    with locked(work):
        _begin(work, settings, "+".join(splits))
        settings = replace(settings, about={**settings.about, **prepare()})
        if asking and asking.batches:
            _ask_by_batches(splits, asking)
            asking = replace(asking, settings=replace(asking.settings, cached_only=True))
        tally, finished = Tally(), []
        with tqdm(total=settings.total, unit="sample", desc=settings.label) as bar:
            jobs = _Jobs(cut(splits, settings.shard_size), shards, settings.retry_failed, bar)
            ahead = _ahead(jobs, asking, engine, settings) if asking else None
            for report in engine.run(ahead or jobs, factory, shards):
                finished.append(report.number)
                tally.add(report.tally)
                jobs.note(report)
                _show(bar, tally, report, ahead)
                _give_up_if_hopeless(tally, report)
        tally.add(jobs.tally)
        stopped = str(ahead.stopped) if ahead and ahead.stopped else None
        result = RunResult(tally, ahead.spent if ahead else None, stopped, jobs.examples, jobs.targets)
        numbers = sorted([*finished, *jobs.finished])
        if not tally.kept or (settings.every_sample and tally.failed):
            raise _no_dataset(result, work, numbers)
        _assemble(work, numbers, settings, result)
    return result


class _Jobs:
    """The jobs still to do, in order.

    Attributes:
        finished: shards that an earlier run made of the same samples, as far as they have passed.
        tally: what is in them.
        examples, targets: see :class:`RunResult`.
    """

    def __init__(self, jobs: Iterator[Job], shards: Path, retry_failed: bool, bar: Any) -> None:
        self._jobs, self._shards, self._retry_failed, self._bar = jobs, shards, retry_failed, bar
        self.finished: list[int] = []
        self.tally = Tally()
        self.examples: dict[str, str] = {}
        self.targets: Counter[str] = Counter()

    def note(self, report: ShardReport) -> None:
        self.targets += report.targets
        for problem in report.problems:
            if problem.kind == "failed":
                self.examples.setdefault(problem.reason, problem.detail)

    def __iter__(self) -> Iterator[Job]:
        return self

    def __next__(self) -> Job:
        for job in self._jobs:
            known = read_report(self._shards, job.number)
            if (
                known is None
                or (known.digest, known.split) != (job.digest, job.split)
                or (self._retry_failed and known.tally.failed)
            ):
                return job
            self.finished.append(job.number)
            self.tally.add(known.tally)
            self.note(known)
            if self._bar.total:
                self._bar.total -= known.tally.read
        raise StopIteration


def _ask_by_batches(splits: Mapping[str, Callable[[], Iterator[Record]]], asking: Asking) -> None:
    cache = AnswerCache(asking.cache)
    try:
        requests = (
            expression_request(turn, asking.settings.model)
            for records in splits.values()
            for record in records()
            for turn in askable_turns(record)
        )
        answer_by_batches(requests, asking.settings, cache, poll_seconds=asking.poll_seconds)
    finally:
        cache.close()


def _ahead(jobs: Iterator[Job], asking: Asking, engine: Engine, settings: RunSettings) -> AskedAhead:
    """Asks for enough jobs ahead to use all requests at a time, and for every worker to find one waiting."""
    ahead = 2 * (engine.workers + asking.settings.concurrency // settings.shard_size + 1)
    return AskedAhead(jobs, asking.settings, asking.cache, ahead)


def _begin(work: Path, settings: RunSettings, splits: str) -> None:
    """Make the work folder, or check that it belongs to the same run."""
    shards, file = work / "shards", work / "settings"
    if settings.restart and shards.exists():
        shutil.rmtree(shards)
        file.unlink(missing_ok=True)
    shards.mkdir(parents=True, exist_ok=True)
    for leftover in shards.glob(".*"):
        leftover.unlink()
    # As it comes back from the file.
    identity = json.loads(json.dumps({**settings.identity, "split": splits, "shard_size": settings.shard_size}))
    if file.is_file() and any(shards.iterdir()):
        before = _settings(file)
        changed = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
        if changed:
            shown = "; ".join(f"{key}: {before.get(key)!r}, now {identity.get(key)!r}" for key in changed)
            raise ValueError(
                f"{work} holds a run with other settings ({shown}): choose another --output, or --restart to begin "
                "anew (answers of language models are kept)"
            )
        return
    write_json(file, identity)


def _settings(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}), so it is not known whose run this is: --restart begins anew (answers of "
            "language models are kept)"
        ) from error


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


def _no_dataset(result: RunResult, work: Path, numbers: list[int]) -> Exception:
    """Why there is no dataset; every problem is written where it would not be lost."""
    from fivl_hf.augment.report import write_problems

    totals = write_problems(work / "problems.jsonl", _reports(work / "shards", numbers))
    if result.stopped:
        return ServiceError(result.stopped)
    tally = result.tally
    if tally.kept:
        return ValueError(
            f"{tally.failed.total():,} of {tally.read:,} samples failed, and scores without them would be wrong: "
            f"{result.failures()}; each is in {work / 'problems.jsonl'}. Fix the cause and run it again with "
            "--retry-failed."
        )
    shown = "; ".join(filter(None, (result.failures(), _counts(tally.dropped)))) or "the input is empty"
    expressions = f" (expressions: {_counts(totals.rejected)})" if totals.rejected else ""
    return ValueError(
        f"none of {tally.read} samples became a row: {shown}{expressions}; each is in {work / 'problems.jsonl'}"
    )


def _reports(shards: Path, numbers: list[int]) -> Iterator[ShardReport]:
    return (report for number in numbers if (report := read_report(shards, number)))


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _counts(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(3))


def _assemble(work: Path, numbers: list[int], settings: RunSettings, result: RunResult) -> None:
    """The dataset folder with its report, from all shards that are done."""
    # It draws: workers that import this module need not load a plotting library.
    from fivl_hf.augment.report import draw_rows, write_report

    shards = work / "shards"
    tally = result.tally
    counted = tally.kept + tally.dropped.total() + tally.failed.total()
    if counted != tally.read:
        raise RuntimeError(f"{tally.read} samples were read, but {counted} counted")
    files: dict[str, dict[str, list[Path]]] = {}
    for report in _reports(shards, numbers):
        for part in report.parts:
            files.setdefault(report.split, {}).setdefault(part, []).append(rows_file(shards, report.number, part))
    flat = [path for parts in files.values() for paths in parts.values() for path in paths]

    def about(folder: Path) -> About:
        summary = {**result.to_dict(), "settings": {**settings.about, **settings.identity}}
        write_report(folder, _reports(shards, numbers), flat, summary, result.usable())
        pictures = draw_rows(folder, flat, settings.pictures)
        made = (
            f"Made by fivl-hf: of {_count(tally.read, 'sample', 'samples')}, {_count(tally.kept, 'was', 'were')} kept, "
            f"{tally.dropped.total():,} dropped, and {tally.failed.total():,} failed."
        )
        usable = f"{result.usable()}." if result.usable() else ""
        stopped = f"{INCOMPLETE}{result.stopped}." if result.stopped else ""
        description = " ".join(text for text in (settings.card.description, made, usable, stopped) if text)
        return replace(settings.card, description=description, pictures=pictures)

    assemble_dataset(settings.output, files, about=about)
