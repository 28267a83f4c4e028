"""Evaluations on disk: the answers as they come, and the summary with what it was measured with."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fivl_hf.evaluation.endpoint import EndpointAnswerer
from fivl_hf.evaluation.runner import Answers, evaluate_answers, model_answers
from fivl_hf.evaluation.summary import rescored, summarize
from fivl_hf.evaluation.table import AnswerTable, answers_file, read_answers
from fivl_hf.files.atomic import write_json
from fivl_hf.files.locks import locked
from fivl_hf.files.results import read_settings, result_folder
from fivl_hf.storage.provenance import provenance

__all__ = ["score_again", "write_endpoint_evaluation", "write_evaluation"]


_FILES = ("reliance.json", "answers.jsonl")


def write_evaluation(
    load: Callable[[], tuple[Any, Any]],
    rows: Any,
    output: Path,
    *,
    batch_size: int = 16,
    max_new_tokens: int = 32,
    **options: Any,
) -> dict[str, Any]:
    """Measure a model's visual reliance and write ``answers.jsonl`` and ``reliance.json``, going on where it stopped.

    Args:
        load: gives the model and its processor.
        rows: of the split, images left encoded (:func:`fivl_hf.storage.load_rows`).
        options: ``model_name``, ``dataset``, ``split`` and, if it has several, ``config``, which are recorded;
            ``restart``, to replace the results of another run; and those of
            :func:`fivl_hf.evaluation.runner.evaluate_answers`.

    Returns:
        The content of ``reliance.json``.

    Raises:
        ValueError: the folder holds results of another run, or a row that does not fit the schema.
        OSError: the folder is in use or cannot be written to.
    """
    with locked(output):
        model, processor = load()
        answer = model_answers(model, processor, batch_size=batch_size, max_new_tokens=max_new_tokens)
        about, batches = {"dtype": str(model.dtype)}, {"batch_size": batch_size}
        return _write(answer, rows, output, about, batches, max_new_tokens=max_new_tokens, **options)


def write_endpoint_evaluation(
    answerer: EndpointAnswerer, rows: Any, output: Path, *, max_new_tokens: int = 32, **options: Any
) -> dict[str, Any]:
    """Measure a model behind an endpoint as :func:`write_evaluation` measures one of transformers.

    Questions that got no answer are counted under ``unanswered``, by reason, and asked again by the next run.

    Raises:
        ServiceError: no further request makes sense; answers are kept.
        ValueError, OSError: as :func:`write_evaluation`.
    """
    # The answerer counts while it is asked.
    about, unanswered = {"endpoint": answerer.url}, {"unanswered": answerer.failures}
    with locked(output):
        return _write(answerer.answer, rows, output, about, unanswered, max_new_tokens=max_new_tokens, **options)


def _write(
    answer: Answers,
    rows: Any,
    output: Path,
    about: Mapping[str, Any],
    further: Mapping[str, Any],
    *,
    model_name: str | Path,
    dataset: str | Path,
    split: str,
    config: str | None = None,
    max_new_tokens: int,
    turns: str = "first",
    seed: int = 0,
    prompt_suffix: str | None = None,
    restart: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Ask every question and write the files.

    Args:
        about: what the answers depend on besides model, rows and the way of asking.
        further: what else ``reliance.json`` says; another run may differ in it and still go on.
    """
    about = {**provenance(model_name, rows, dataset=dataset, split=split, config=config), **about}
    asking: dict[str, Any] = {"turns": turns, "seed": seed}
    if prompt_suffix is not None:
        asking["prompt_suffix"] = prompt_suffix
    run = {**about, **asking, "max_new_tokens": max_new_tokens}
    with result_folder(output, run, kind="evaluation", files=_FILES, restart=restart):
        table = AnswerTable(output / "answers.jsonl")
        summary, _ = evaluate_answers(answer, rows, table=table, **asking, **options)
        result = {**about, **further, **summary}
        write_json(output / "reliance.json", result)
    return result


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
    path, result_path = answers_file(folder), folder / "reliance.json"
    with locked(folder):
        before = read_settings(result_path) if result_path.exists() else {}
        run = folder / "evaluation.run.json"
        about = before or (read_settings(run) if run.exists() else {})
        chosen = scorer_name or str(before.get("scoring") or "exact")
        summary = summarize(rescored(read_answers(path), chosen), scorer_name=chosen, seed=seed, resamples=resamples)
        # Of what stood there, what it was measured with; notes on the earlier numbers are not kept.
        notes = {"reason", "random_note", *summary}
        result = {**{key: value for key, value in about.items() if key not in notes}, **summary}
        write_json(result_path, result)
    return result
