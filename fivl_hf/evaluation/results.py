"""Evaluations on disk: the answers as they come, and the summary with what it was measured with."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fivl_hf.evaluation.answerers.protocol import Answerer, Unanswered
from fivl_hf.evaluation.judge import VERDICTS, judge_answers
from fivl_hf.evaluation.plan import DEFAULT_CONDITIONS, Plan
from fivl_hf.evaluation.runner import ask, summary_of
from fivl_hf.evaluation.scorers import default_scorer
from fivl_hf.evaluation.summary import rescored, summarize
from fivl_hf.evaluation.table import AnswerTable, answers_file, measured_with, read_answers
from fivl_hf.files.atomic import write_atomically, write_json
from fivl_hf.files.locks import locked
from fivl_hf.files.processes import Processes, SharedFile
from fivl_hf.files.results import read_settings, result_folder
from fivl_hf.llm.many import ManyRequests
from fivl_hf.storage.provenance import provenance

__all__ = ["score_again", "summary_file", "write_evaluation"]

_RUN = "evaluation.run.json"
# What a summary has only where it applies.
_NOT_ALWAYS = {"reason", "random_note", "random_reason", "all_questions", "with_evidence", "not_judged", "unfinished"}
_UNANSWERED = "unanswered.jsonl"
# Is there while an evaluation asks, and after it was killed.
_UNFINISHED = "evaluation.unfinished"
_FILES = ("reliance.json", "answers.jsonl", _UNANSWERED, _UNFINISHED)


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
        with processes.first_enters(_run_in(output, about, restart=restart)):
            plan = Plan(rows, conditions, seed=seed, **asking)
            chosen = scorer_name or default_scorer(plan.source)
            table, known = _tables(output, processes)
            if processes.first or answerer.splits_over_processes:
                ask(
                    answerer,
                    plan,
                    table,
                    scorer_name=chosen,
                    seed=seed,
                    answerer_name=str(model_name),
                    share=(processes.number, processes.count) if answerer.splits_over_processes else (0, 1),
                    known=known,
                )
            processes.wait()
            if processes.first:
                _take_parts(output)
                summary = summary_of(read_answers(answers_file(output)), plan, chosen, seed=seed, resamples=resamples)
                unanswered = _list_unanswered(output / _UNANSWERED, answerer.unanswered)
                write_json(output / "reliance.json", {**about, **answerer.details, "unanswered": unanswered, **summary})
                (output / _UNFINISHED).unlink()
    return read_settings(output / "reliance.json")


@contextmanager
def _run_in(output: Path, about: dict[str, Any], *, restart: bool) -> Iterator[None]:
    """Check that the folder is this run's, and take in what an interrupted run left."""
    with result_folder(output, about, kind="evaluation", files=_FILES, restart=restart):
        _take_parts(output, drop=restart)
        (output / "answers.jsonl").touch()
        (output / _UNFINISHED).touch()
        yield


def _tables(output: Path, processes: Processes) -> tuple[AnswerTable, AnswerTable]:
    """Return the table that this process writes, and the answers that all know."""
    shared = SharedFile(output / "answers.jsonl")
    known = AnswerTable(shared.path)
    # The first process adds to what the others are reading.
    processes.wait()
    return (known if processes.first else AnswerTable(shared.of(processes))), known


def _list_unanswered(path: Path, unanswered: Iterable[Unanswered]) -> dict[str, int]:
    """Write what got no answer, a line each, and count it by reason; there is no file if everything did."""
    listed = sorted(unanswered, key=lambda each: (each.reason, each.id, each.condition))
    path.unlink(missing_ok=True)
    if listed:
        write_atomically(path, "".join(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in listed))
    return dict(Counter(each.reason for each in listed))


def _take_parts(output: Path, *, drop: bool = False) -> None:
    """Move the answers of the other processes into the table, or drop them."""
    shared = SharedFile(output / "answers.jsonl")
    shared.take_parts(lambda part: AnswerTable(shared.path).add(read_answers(part)), drop=drop)


def score_again(
    place: Path,
    *,
    scorer_name: str | None = None,
    judge: ManyRequests | None = None,
    output: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Compute the numbers of an evaluation again from its answers, without its model.

    Args:
        place: the evaluation's folder, or a file of answers (.jsonl, .parquet) alone.
        scorer_name: see :func:`fivl_hf.evaluation.judge.answer_scorer`; the one that it was scored by if not given.
        judge: if the scorer is a judge, what asks it about answers that it has not seen; its cache is the file
            ``verdicts.sqlite`` beside the answers.
        output: file to write; :func:`summary_file` if not given.
        options: seed, resamples, fill and scope of :func:`fivl_hf.evaluation.summary.summarize`; those that it was
            measured with where they are not given, or None.

    Returns:
        The content of the file.

    Raises:
        FileNotFoundError: there is no such folder or file, or the folder holds no answers.
        ServiceError: the judge takes no further request; its verdicts are kept.
        ValueError: no answers, a line that is not an answer, or an unknown scorer.
    """
    folder, alone = _place(place)
    with locked(folder):
        if alone is None:
            _take_parts(folder)
        about = {} if alone else measured_with(folder)
        answers = partial(read_answers, alone or answers_file(folder), finished=alone is not None)
        chosen = scorer_name or str(about.get("scoring") or "exact")
        recorded: dict[str, Any] = {name: about[name] for name in ("seed", "fill", "scope") if name in about}
        recorded |= about.get("bootstrap", {})
        given = {name: value for name, value in options.items() if value is not None}
        if judge:
            judge_answers(answers, judge)
        unfinished = alone is None and (folder / _UNFINISHED).exists()
        summary = summarize(
            rescored(answers(), chosen, folder / VERDICTS),
            conditions=list(about.get("conditions", ())),
            scorer_name=chosen,
            **{**recorded, **given},
        )
        if not summary["questions"]:
            raise ValueError(f"{place}: no question was answered yet{'; run fivl evaluate again' * unfinished}")
        if unfinished:
            summary["unfinished"] = "fivl evaluate was interrupted: some questions were not asked; run it again"
        if judge:
            summary["not_judged"] = dict(sorted(judge.failures.items()))
        elif chosen == about.get("scoring") and "not_judged" in about:
            summary["not_judged"] = about["not_judged"]
        stale = _NOT_ALWAYS - set(summary)
        result = {name: value for name, value in {**about, **summary}.items() if name not in stale}
        write_json(output or summary_file(place), result)
    return result


def summary_file(place: Path) -> Path:
    """Return where :func:`score_again` writes, if nothing else is said."""
    folder, alone = _place(place)
    return alone.with_suffix(".reliance.json") if alone else folder / "reliance.json"


def _place(place: Path) -> tuple[Path, Path | None]:
    """Return the folder of an evaluation and None, or of a file of answers its folder and itself.

    Raises:
        FileNotFoundError: there is nothing.
    """
    if not place.exists():
        raise FileNotFoundError(f"{place} does not exist")
    if place.is_dir():
        return place, None
    is_evaluations = (place.parent / _RUN).exists() and place == answers_file(place.parent)
    return place.parent, None if is_evaluations else place
