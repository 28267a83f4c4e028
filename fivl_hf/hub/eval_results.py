"""``.eval_results/*.yaml``: measured results as the Hub shows them on a model's page and a benchmark's leaderboard."""

from collections.abc import Mapping
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from fivl_hf.storage.eval_files import task_id
from fivl_hf.training.cards import on_the_hub

__all__ = ["FOLDER", "eval_results_file"]

FOLDER = ".eval_results"


def eval_results_file(reliance: Mapping[str, Any], benchmark: str | None = None) -> tuple[str, bytes] | None:
    """Return path and content of the file for a benchmark.

    Args:
        reliance: content of ``reliance.json``.
        benchmark: its id on the Hub, if the rows were read from a folder.

    Returns:
        None if the benchmark is not on the Hub, only a part of its split was asked, or no score is defined.

    Raises:
        ValueError: ``benchmark`` is not an id on the Hub (YOU/NAME).
    """
    dataset, score = benchmark or str(reliance.get("dataset") or ""), reliance.get("visual_reliance_score")
    if benchmark and ("/" not in benchmark or not on_the_hub(benchmark)):
        raise ValueError(f"a benchmark on the Hub is YOU/NAME, got {benchmark!r}")
    if "[" in str(reliance.get("split")):  # A part of a split is not the benchmark.
        return None
    if score is None or "/" not in dataset or not on_the_hub(dataset):
        return None
    low, high = reliance.get("confidence_interval") or (None, None)
    interval = "" if low is None else f", 95% interval {low:.3f} to {high:.3f}"
    entry = EvalResultEntry(
        dataset_id=dataset,
        task_id=task_id(str(reliance["split"]), reliance.get("dataset_config")),
        value=round(float(score), 4),
        notes=f"fivl-hf; {reliance.get('n') or 0:,} questions, scored by {reliance.get('scoring')}{interval}",
    )
    content = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
    return f"{FOLDER}/{dataset.replace('/', '__')}.yaml", content.encode()
