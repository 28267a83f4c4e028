"""``eval.yaml``, by which the Hub recognises a dataset as a benchmark with a leaderboard for each of its tasks."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from fivl_hf.storage.cards import DEFAULT_CONFIG

__all__ = ["EVAL_FILE", "WITHOUT_EVIDENCE", "eval_yaml", "task_id"]

EVAL_FILE = "eval.yaml"
WITHOUT_EVIDENCE = "without_evidence"
"""The configuration of a benchmark's questions that have none, which have no score."""

# Its own: tasks of "inspect-ai" can only name inspect's own solvers and scorers, which ask each question once.
_FRAMEWORK = "fivl-hf"


def task_id(split: str, config: str | None = None) -> str:
    """Return the name of the task that measures the Visual Reliance Score on a split."""
    parts = ("visual_reliance_score", config if config != DEFAULT_CONFIG else None, split)
    return "_".join(part for part in parts if part)


def eval_yaml(title: str, description: str, splits: Mapping[str, Iterable[str]]) -> str:
    """Return the text of ``eval.yaml``.

    Args:
        splits: of each configuration.
    """
    tasks = [
        {"id": task_id(split, config), "config": config, "split": split}
        for config, names in splits.items()
        if config != WITHOUT_EVIDENCE
        for split in names
    ]
    text = " ".join(description.split()) or f"{title}: questions with the evidence in their images."
    content: dict[str, Any] = {
        "name": title,
        "description": f"{text} The Visual Reliance Score is the share of accuracy lost when the evidence is removed.",
        "evaluation_framework": _FRAMEWORK,
        "tasks": tasks,
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
