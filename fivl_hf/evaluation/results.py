"""Evaluations on disk: the answers as they come, and the summary with what it was measured with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fivl_hf.evaluation.runner import evaluate_reliance
from fivl_hf.evaluation.table import AnswerTable
from fivl_hf.files.atomic import write_json
from fivl_hf.files.locks import locked
from fivl_hf.files.results import result_folder
from fivl_hf.storage.provenance import provenance

__all__ = ["write_evaluation"]


def write_evaluation(
    load: Callable[[], tuple[Any, Any]],
    rows: Any,
    output: Path,
    *,
    model_name: str | Path,
    dataset: str | Path,
    split: str,
    config: str | None = None,
    turns: str = "first",
    batch_size: int = 16,
    max_new_tokens: int = 32,
    seed: int = 0,
    resamples: int = 1000,
    restart: bool = False,
) -> dict[str, Any]:
    """Measure a model's visual reliance and write ``answers.jsonl`` and ``reliance.json``, going on where it stopped.

    Args:
        load: gives the model and its processor.
        rows: of the split, images left encoded (:func:`fivl_hf.storage.load_rows`).
        restart: replace the results of another run.

    Returns:
        The content of ``reliance.json``.

    Raises:
        ValueError: the folder holds results of another run, or a row that does not fit the schema.
        OSError: the folder is in use or cannot be written to.
    """
    with locked(output):
        model, processor = load()
        about = provenance(model_name, rows, dataset=dataset, split=split, config=config)
        run: dict[str, Any] = {
            **about,
            "dtype": str(model.dtype),
            "turns": turns,
            "max_new_tokens": max_new_tokens,
            "seed": seed,
        }
        files = ("reliance.json", "answers.jsonl")
        with result_folder(output, run, kind="evaluation", files=files, restart=restart):
            summary, _ = evaluate_reliance(
                model,
                processor,
                rows,
                table=AnswerTable(output / "answers.jsonl"),
                turns=turns,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                seed=seed,
                resamples=resamples,
            )
            result = {**about, "dtype": run["dtype"], "batch_size": batch_size, **summary}
            write_json(output / "reliance.json", result)
        return result
