"""``eval.yaml``: the file by which the Hub knows a dataset as a benchmark, with a leaderboard for each of its tasks."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

__all__ = ["EVAL_FILE", "eval_yaml", "task_id"]

EVAL_FILE = "eval.yaml"
# A task of this package runs there: fivl_hf/vrs.
_FRAMEWORK = "inspect-ai"


def task_id(split: str, config: str | None = None) -> str:
    """Return the name of the task that measures the Visual Reliance Score on a split."""
    parts = ("visual_reliance_score", config if config != "default" else None, split)
    return "_".join(part for part in parts if part)


def eval_yaml(title: str, description: str, splits: Mapping[str, Iterable[str]]) -> str:
    """Return the text of ``eval.yaml``.

    Args:
        splits: of each configuration.
    """
    tasks = [
        {"id": task_id(split, config), "config": config, "split": split}
        for config, names in splits.items()
        for split in names
    ]
    text = " ".join(description.split()) or f"{title}: questions with the evidence in their images."
    content: dict[str, Any] = {
        "name": title,
        "description": f"{text} Measured is how far accuracy falls without the evidence (Visual Reliance Score).",
        "evaluation_framework": _FRAMEWORK,
        "tasks": tasks,
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
