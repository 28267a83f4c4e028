"""The whole run: read, ask, ground in shards, resume, put together. Kept + dropped + failed = read, always."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fivl_hf.augment.contents import DatasetContents
from fivl_hf.augment.counts import TARGETS
from fivl_hf.augment.expressions import ProtocolName
from fivl_hf.augment.extractors.chat import expression_request
from fivl_hf.augment.inputs.conversations import Record, records_digest
from fivl_hf.augment.prefetch import PrefetchedExtractions, askable_turns
from fivl_hf.augment.rows import Sample
from fivl_hf.files.managed_folders import require_own_folder, work_folder
from fivl_hf.jobs.engines import LocalEngine, WorkerFactory
from fivl_hf.jobs.outcomes import Tally
from fivl_hf.jobs.runner import Engine, Progress, UnfinishedJobs, run_jobs, shard_folder
from fivl_hf.jobs.shards import Job, cut
from fivl_hf.llm.answers import AnswerCache
from fivl_hf.llm.batches import answer_by_batches
from fivl_hf.llm.settings import ChatSettings, ServiceError, Usage
from fivl_hf.storage import assemble_dataset, require_split_name
from fivl_hf.storage.cards import INCOMPLETE, CardContent
from fivl_hf.supervision import usable_sentence

__all__ = ["ExtractionSettings", "RunResult", "RunSettings", "run_augmentation"]


@dataclass(frozen=True)
class ExtractionSettings:
    """A language model to ask for key expressions.

    Attributes:
        cache: SQLite file of its answers.
        protocol: by whose rules replies are sorted, the paper's or ours.
        batches: ask through the Batch API; samples that it leaves unanswered wait for the next run.
        poll_seconds: seconds between checks of the batches.
    """

    settings: ChatSettings
    cache: Path
    batches: bool = False
    poll_seconds: float = 60.0
    protocol: ProtocolName = "default"


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run.

    Attributes:
        output: folder of the dataset. What is under way is in ``work_folder(output)``.
        split: what the dataset's split is called, where the records are of one split.
        identity: all that decides what rows look like; a run is only resumed with the same.
        shard_size: samples that are lost at most when the run is killed.
        restart: start over; answers of language models are kept.
        retry_failed: run shards again in which samples failed.
        every_sample: no dataset is made if a sample failed.
        label: of the progress bar.
        total: how many samples there are, for the progress bar.
        card: what the dataset's card says; of its pictures and of the run, more is added.
        pictures: number of rows drawn for the card.
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
    card: CardContent = field(default_factory=lambda: CardContent("FiVL"))
    pictures: int = 0
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        stopped: why it is not complete.
        examples: of each reason why samples failed, the detail of one of them.
        targets: key expressions that can supervise patches, and those that cannot, by reason.
    """

    tally: Tally
    spent: Usage | None
    stopped: str | None = None
    examples: dict[str, str] = field(default_factory=dict)
    targets: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        return {
            "tally": self.tally.to_dict(),
            "targets": dict(self.targets),
            "spent": asdict(self.spent) if self.spent else None,
            "stopped": self.stopped,
        }

    def usable(self) -> str:
        """Say how many key expressions can supervise patches; empty for benchmarks, which train nothing."""
        return usable_sentence(self.targets)

    def failures(self) -> str:
        """Return the most frequent reasons why samples failed, each with an example; empty if none did."""
        shown = [
            f"{count:,} × {reason}" + (f" ({self.examples[reason]})" if self.examples.get(reason) else "")
            for reason, count in self.tally.failed.most_common(3)
        ]
        return "; ".join(shown)


def run_augmentation(
    records: Callable[[], Iterator[Record]] | Mapping[str, Callable[[], Iterator[Record]]],
    factory: WorkerFactory,
    settings: RunSettings,
    *,
    engine: Engine = LocalEngine(),  # noqa: B008 (frozen)
    extraction: ExtractionSettings | None = None,
    prepare: Callable[[], dict[str, Any]] = dict,
) -> RunResult:
    """Make a dataset of FiVL rows in ``settings.output``, going on where an earlier run was interrupted.

    Args:
        records: reads the input from its beginning; or one such function for each split.
        factory: makes a worker's tools (extractor and grounder); must be picklable.
        extraction: a language model, asked ahead of the workers; without one, the workers' own extractor is used.
        prepare: called once the run is known to be allowed, before anything is read; returns more for the report.

    Raises:
        ValueError: settings that differ from those of the run to resume, no row at all, or every sample failing.
        FileExistsError: the output folder holds something else.
        OSError: a shard cannot be written; finished shards are kept.
    """
    splits = records if isinstance(records, Mapping) else {settings.split: records}
    for split in splits:
        require_split_name(split)
    require_own_folder(settings.output.resolve())
    work = work_folder(settings.output.resolve())
    identity = {**settings.identity, "split": "+".join(splits), "shard_size": settings.shard_size}
    with shard_folder(work, identity, restart=settings.restart) as shards:
        settings = replace(settings, about={**settings.about, **prepare()})
        if extraction and extraction.batches:
            _ask_by_batches(splits, extraction)
            extraction = replace(extraction, settings=replace(extraction.settings, cached_only=True))
        samples = {split: partial(_samples, read) for split, read in splits.items()}
        with tqdm(total=settings.total, unit="sample", desc=settings.label) as bar:
            jobs = UnfinishedJobs(
                cut(samples, settings.shard_size, _digest), shards, retry_failed=settings.retry_failed, bar=bar
            )
            ahead = _prefetched(jobs, extraction, engine, settings) if extraction else None
            progress = run_jobs(ahead or jobs, factory, engine, shards, bar=bar, more_counts=partial(_requests, ahead))
        progress.merge(jobs.done)
        stopped = str(ahead.stopped) if ahead and ahead.stopped else None
        targets = progress.counts.get(TARGETS, Counter())
        result = RunResult(progress.tally, ahead.spent if ahead else None, stopped, progress.examples, targets)
        if not result.tally.kept or (settings.every_sample and result.tally.failed):
            raise _no_dataset(result, progress, work)
        _assemble(progress, settings, result)
    return result


def _samples(records: Callable[[], Iterator[Record]]) -> Iterator[Sample]:
    return map(Sample, records())


def _digest(samples: Sequence[Sample]) -> str:
    return records_digest([sample.record for sample in samples])


def _requests(ahead: PrefetchedExtractions | None) -> dict[str, int]:
    return {"requests": ahead.spent.requests} if ahead else {}


def _ask_by_batches(splits: Mapping[str, Callable[[], Iterator[Record]]], extraction: ExtractionSettings) -> None:
    cache = AnswerCache(extraction.cache)
    try:
        requests = (
            expression_request(turn, extraction.settings.model, extraction.protocol)
            for records in splits.values()
            for record in records()
            for turn in askable_turns(record)
        )
        answer_by_batches(requests, extraction.settings, cache, poll_seconds=extraction.poll_seconds)
    finally:
        cache.close()


def _prefetched(
    jobs: Iterator[Job], extraction: ExtractionSettings, engine: Engine, settings: RunSettings
) -> PrefetchedExtractions:
    """Asks for enough jobs ahead to use all requests at a time, and for every worker to find one waiting."""
    ahead = 2 * (engine.workers + extraction.settings.concurrency // settings.shard_size + 1)
    return PrefetchedExtractions(jobs, extraction.settings, extraction.cache, ahead, extraction.protocol)


def _no_dataset(result: RunResult, progress: Progress, work: Path) -> Exception:
    """Write every problem to the work folder, and return the error that says why there is no dataset."""
    from fivl_hf.augment.report import write_problems

    totals = write_problems(work / "problems.jsonl", progress.reports())
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


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _counts(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(3))


def _assemble(progress: Progress, settings: RunSettings, result: RunResult) -> None:
    """The dataset folder with its report, from all shards that are done."""
    # It draws: workers that import this module need not load a plotting library.
    from fivl_hf.augment.report import draw_rows, write_report

    contents = DatasetContents(progress.counts)
    tally = result.tally
    counted = tally.kept + tally.dropped.total() + tally.failed.total()
    if counted != tally.read:
        raise RuntimeError(f"{tally.read} samples were read, but {counted} counted")
    files = progress.files()
    flat = [path for parts in files.values() for paths in parts.values() for path in paths]

    def about(folder: Path) -> CardContent:
        summary = {**result.to_dict(), "settings": {**settings.about, **settings.identity}}
        write_report(folder, progress.reports(), flat, contents, summary, result.usable())
        pictures = draw_rows(folder, flat, settings.pictures)
        by = ", by the paper's protocol" if summary["settings"].get("protocol") == "paper" else ""
        by += ', with plausible evidence for "no" questions' if summary["settings"].get("absent") else ""
        made = (
            f"Made by fivl-hf{by}: of {_count(tally.read, 'sample', 'samples')}, {_count(tally.kept, 'was', 'were')} "
            f"kept, {tally.dropped.total():,} dropped, and {tally.failed.total():,} failed."
        )
        usable = f"{result.usable()}." if result.usable() else ""
        stopped = f"{INCOMPLETE}{result.stopped}." if result.stopped else ""
        description = " ".join(text for text in (settings.card.description, made, usable, stopped) if text)
        return replace(settings.card, description=description, contents=contents.markdown(), pictures=pictures)

    assemble_dataset(settings.output, files, about=about)
