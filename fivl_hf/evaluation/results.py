"""Evaluations on disk: the answers as they come, and the summary with what it was measured with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fivl_hf.evaluation.endpoint import EndpointAnswerer
from fivl_hf.evaluation.runner import evaluate_answers, evaluate_reliance
from fivl_hf.evaluation.summary import rescored, summarize
from fivl_hf.evaluation.table import AnswerTable, read_answers
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
    model_name: str | Path,
    dataset: str | Path,
    split: str,
    config: str | None = None,
    batch_size: int = 16,
    max_new_tokens: int = 32,
    turns: str = "first",
    seed: int = 0,
    prompt_suffix: str | None = None,
    restart: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Measure a model's visual reliance and write ``answers.jsonl`` and ``reliance.json``, going on where it stopped.

    Args:
        load: gives the model and its processor.
        rows: of the split, images left encoded (:func:`fivl_hf.storage.load_rows`).
        restart: replace the results of another run.
        options: further ones of :func:`fivl_hf.evaluation.runner.evaluate_answers`.

    Returns:
        The content of ``reliance.json``.

    Raises:
        ValueError: the folder holds results of another run, or a row that does not fit the schema.
        OSError: the folder is in use or cannot be written to.
    """
    with locked(output):
        model, processor = load()
        about = {
            **provenance(model_name, rows, dataset=dataset, split=split, config=config),
            "dtype": str(model.dtype),
        }
        run = {**about, **_asking(turns, max_new_tokens, seed, prompt_suffix)}
        with result_folder(output, run, kind="evaluation", files=_FILES, restart=restart):
            summary, _ = evaluate_reliance(
                model,
                processor,
                rows,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                table=AnswerTable(output / "answers.jsonl"),
                turns=turns,
                seed=seed,
                prompt_suffix=prompt_suffix,
                **options,
            )
            result = {**about, "batch_size": batch_size, **summary}
            write_json(output / "reliance.json", result)
        return result


def write_endpoint_evaluation(
    answerer: EndpointAnswerer,
    rows: Any,
    output: Path,
    *,
    model_name: str,
    dataset: str | Path,
    split: str,
    config: str | None = None,
    max_new_tokens: int = 32,
    turns: str = "first",
    seed: int = 0,
    prompt_suffix: str | None = None,
    restart: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Measure a model behind an endpoint as :func:`write_evaluation` measures one of transformers.

    Questions that got no answer are counted under ``unanswered``, by reason, and asked again by the next run.

    Raises:
        ServiceError: no further request makes sense; answers are kept.
        ValueError, OSError: as :func:`write_evaluation`.
    """
    with locked(output):
        about = {
            **provenance(model_name, rows, dataset=dataset, split=split, config=config),
            "endpoint": answerer.url,
        }
        run = {**about, **_asking(turns, max_new_tokens, seed, prompt_suffix)}
        with result_folder(output, run, kind="evaluation", files=_FILES, restart=restart):
            summary, _ = evaluate_answers(
                answerer.answer,
                rows,
                table=AnswerTable(output / "answers.jsonl"),
                turns=turns,
                seed=seed,
                prompt_suffix=prompt_suffix,
                **options,
            )
            result = {**about, "unanswered": dict(answerer.failures), **summary}
            write_json(output / "reliance.json", result)
        return result


def _asking(turns: str, max_new_tokens: int, seed: int, prompt_suffix: str | None) -> dict[str, Any]:
    """Return what decides the answers besides model and rows."""
    asking: dict[str, Any] = {"turns": turns, "max_new_tokens": max_new_tokens, "seed": seed}
    return asking if prompt_suffix is None else {**asking, "prompt_suffix": prompt_suffix}


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
    path, result_path = folder / "answers.jsonl", folder / "reliance.json"
    if not path.is_file():
        started = (folder / "evaluation.run.json").exists()
        why = "no question was answered yet; run it again" if started else "it is not the output of fivl evaluate"
        raise FileNotFoundError(f"{folder} holds no answers.jsonl: {why}")
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
