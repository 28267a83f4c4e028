"""Evaluations on disk: the answers as they come, and the summary with what it was measured with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fivl_hf.evaluation.answerers.protocol import Answerer
from fivl_hf.evaluation.plan import DEFAULT_CONDITIONS, Plan
from fivl_hf.evaluation.processes import Processes
from fivl_hf.evaluation.runner import ask, summary_of
from fivl_hf.evaluation.scorers import default_scorer
from fivl_hf.evaluation.summary import rescored, summarize
from fivl_hf.evaluation.table import AnswerTable, answers_file, measured_with, read_answers
from fivl_hf.files.atomic import write_json
from fivl_hf.files.locks import locked
from fivl_hf.files.results import read_settings, result_folder
from fivl_hf.storage.provenance import provenance

__all__ = ["score_again", "write_evaluation"]

_FILES = ("reliance.json", "answers.jsonl")
# Where processes besides the first write while they ask.
_PART = "answers.process{}.jsonl"


def write_evaluation(
    load: Callable[[], Answerer],
    rows: Any,
    output: Path,
    *,
    model_name: str | Path,
    dataset: str | Path,
    split: str,
    config: str | None = None,
    conditions: Sequence[str] = DEFAULT_CONDITIONS,
    scorer_name: str | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    restart: bool = False,
    **asking: Any,
) -> dict[str, Any]:
    """Measure a model's visual reliance and write ``answers.jsonl`` and ``reliance.json``, going on where it stopped.

    Where several processes run it (``accelerate launch``), each answers its share.

    Args:
        load: makes what answers.
        rows: of the split, images left encoded (:func:`fivl_hf.storage.load_rows`).
        model_name, dataset, split, config: of what is measured, to be recorded.
        conditions, scorer_name, seed, resamples: see :func:`fivl_hf.evaluation.runner.evaluate_answers`.
        restart: replace the results of another run.
        asking: further options of :class:`fivl_hf.evaluation.plan.Plan`; another run with other ones is another run.

    Returns:
        The content of ``reliance.json``.

    Raises:
        ServiceError: an endpoint that takes no further request; answers are kept.
        ValueError: the folder holds results of another run, or a row that does not fit the schema.
        OSError: the folder is in use or cannot be written to.
    """
    processes = Processes.of_this_run()
    # The first process holds the folder for all.
    with locked(output) if processes.first else nullcontext():
        answerer = load()
        about = {
            **provenance(model_name, rows, dataset=dataset, split=split, config=config),
            **answerer.identity,
            **{name: value for name, value in asking.items() if value is not None},
            "seed": seed,
        }
        with _run_in(output, about, processes, restart=restart):
            plan = Plan(rows, conditions, seed=seed, **asking)
            chosen = scorer_name or default_scorer(plan.source)
            table, known = _tables(output, processes)
            ask(
                answerer,
                plan,
                table,
                scorer_name=chosen,
                seed=seed,
                answerer_name=str(model_name),
                share=(processes.number, processes.count),
                known=known,
            )
            processes.wait()
            if processes.first:
                _take_parts(output)
                summary = summary_of(read_answers(answers_file(output)), plan, chosen, seed=seed, resamples=resamples)
                write_json(output / "reliance.json", {**about, **answerer.details, **summary})
            processes.wait()
    return read_settings(output / "reliance.json")


@contextmanager
def _run_in(output: Path, about: dict[str, Any], processes: Processes, *, restart: bool) -> Iterator[None]:
    """Check, in the first process, that the folder is this run's."""
    if not processes.first:
        processes.wait()
        yield
        return
    with result_folder(output, about, kind="evaluation", files=_FILES, restart=restart):
        if restart:
            for part in output.glob(_PART.format("*")):
                part.unlink()
        _take_parts(output)
        (output / "answers.jsonl").touch()
        processes.wait()
        yield


def _tables(output: Path, processes: Processes) -> tuple[AnswerTable, AnswerTable]:
    """Return the table that this process writes, and the answers that all know."""
    known = AnswerTable(output / "answers.jsonl")
    # The first process adds to what the others are reading.
    processes.wait()
    if processes.first:
        return known, known
    return AnswerTable(output / _PART.format(processes.number)), known


def _take_parts(output: Path) -> None:
    """Move the answers of the other processes into the table."""
    for part in sorted(output.glob(_PART.format("*"))):
        AnswerTable(output / "answers.jsonl").add(read_answers(part))
        part.unlink()


def score_again(
    folder: Path, *, scorer_name: str | None = None, seed: int = 0, resamples: int = 10_000
) -> dict[str, Any]:
    """Compute ``reliance.json`` of a folder again from its ``answers.jsonl``, without a model.

    Args:
        scorer_name: see :func:`fivl_hf.evaluation.scorers.scorer`; the one that it was scored by if not given.

    Returns:
        The content of ``reliance.json``.

    Raises:
        FileNotFoundError: the folder holds no answers.
        ValueError: a line that is not an answer, or an unknown scorer.
    """
    with locked(folder):
        _take_parts(folder)
        path, result_path = answers_file(folder), folder / "reliance.json"
        about = measured_with(folder)
        chosen = scorer_name or str(about.get("scoring") or "exact")
        summary = summarize(rescored(read_answers(path), chosen), scorer_name=chosen, seed=seed, resamples=resamples)
        # Of what stood there, what it was measured with; notes on the earlier numbers are not kept.
        notes = {"reason", "random_note", *summary}
        result = {**{key: value for key, value in about.items() if key not in notes}, **summary}
        write_json(result_path, result)
    return result
