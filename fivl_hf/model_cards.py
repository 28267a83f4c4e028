"""Model cards: what a model was trained with, and what was measured of it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

__all__ = ["Measured", "measured_card", "read_measured", "training_card"]

_PAPER = "[FiVL](https://arxiv.org/abs/2412.14672)"
_METRICS = {
    "visual_reliance_score": "Visual Reliance Score",
    "accuracy": "Accuracy",
    "masked_accuracy": "Accuracy, evidence blacked out",
    "random_masked_accuracy": "Accuracy, random boxes blacked out",
}
_RESULTS = "## Measured with fivl-hf"
_OLD_RESULTS = re.compile(rf"^{_RESULTS}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
# The two lines of training_card.
_LOADING = re.compile(
    r'^((?:model = AutoModelForImageTextToText|processor = AutoProcessor)\.from_pretrained\()"[^"]*"', re.MULTILINE
)


@dataclass(frozen=True)
class Measured:
    """What was measured of a model.

    Attributes:
        reliance: ``reliance.json`` of ``fivl evaluate``.
        explanation: ``explanation.json`` of ``fivl explain``.
        head_map: ``head_map.png`` of ``fivl explain``.
    """

    reliance: Mapping[str, Any] | None = None
    explanation: Mapping[str, Any] | None = None
    head_map: Path | None = None


def training_card(
    name: str,
    *,
    load_name: str,
    base_model: str | None,
    dataset: str | None,
    tags: Sequence[str],
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
) -> ModelCard:
    """The card of a model trained by FiVLTrainer.

    Args:
        load_name: what ``from_pretrained`` takes.
        settings: what it was trained with, λ first.
        versions: of the packages used.
    """
    data = ModelCardData(
        # The Hub refuses names that are folders of ours.
        base_model=None if base_model and Path(base_model).exists() else base_model,
        datasets=[dataset] if dataset and not Path(dataset).exists() else None,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        model_name=name,
        tags=list(tags),
    )
    told = f" from `{_shown(base_model)}`" if base_model else ""
    on = f" on `{_shown(dataset)}`" if dataset else ""
    table = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
    used = ", ".join(f"{package} {version}" for package, version in versions.items())
    return ModelCard(
        f"""---
{data.to_yaml()}
---

# {name}

A vision-language model fine-tuned{told}{on} with Vision Modeling of {_PAPER}: besides its text, every image patch
learned to predict the keyword of what it shows. The checkpoint is an ordinary one and needs no further package.

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{load_name}")
processor = AutoProcessor.from_pretrained("{load_name}")
```

## Training

| | |
|---|---|
{table}

Trained with fivl-hf's `FiVLTrainer` ({used}).
"""
    )


def _shown(name: str) -> str:
    """A name on the Hub as it is; of a folder its name, since where it lies is nobody's business."""
    return Path(name).resolve().name if Path(name).exists() else name


def read_measured(evaluation: Path | None, explanation: Path | None) -> Measured:
    """Results from the folders of ``fivl evaluate`` and ``fivl explain``.

    Raises:
        ValueError: a folder without them.
    """
    reliance = _read_json(evaluation / "reliance.json", "visual_reliance_score") if evaluation else None
    explained = _read_json(explanation / "explanation.json", "top_heads") if explanation else None
    head_map = explanation / "head_map.png" if explanation else None
    if head_map and not head_map.is_file():
        raise ValueError(f"there is no {head_map}: fivl explain writes it")
    return Measured(reliance, explained, head_map)


def measured_card(text: str | None, name: str, measured: Measured) -> str:
    """A model's card (a new one if there is none) with its results: a section, a picture, ``model-index``."""
    try:
        card = ModelCard(text) if text else ModelCard(f"---\ntags:\n- fivl\n---\n\n# {name}\n")
    except yaml.YAMLError as error:
        raise ValueError(f"the front matter of the model's README.md is no YAML: {error}") from error
    data: Any = card.data
    data.tags = sorted({*(data.tags or ()), "fivl"})
    sections = []
    if measured.reliance:
        data.model_name = data.to_dict().get("model_name") or name
        data.eval_results = _eval_results(measured.reliance)
        sections.append(_reliance_section(measured.reliance))
    if measured.explanation:
        sections.append(_heads_section(measured.explanation))
    # Results of an earlier push make way, whatever else a person wrote stays.
    body = _OLD_RESULTS.sub("", card.text).rstrip()
    # Trained under a folder's name, a model is loaded by its name on the Hub.
    body = _LOADING.sub(rf'\g<1>"{name}"', body)
    results = "\n\n".join([_RESULTS, *sections])
    card.text = f"{body}\n\n{results}\n" if sections else f"{body}\n"
    return str(card)


def _read_json(path: Path, key: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"there is no {path}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, dict) or key not in found:
        raise ValueError(f"{path} holds no {key}")
    for name in (*_METRICS, "random_reliance_score", "n"):
        if not isinstance(found.get(name), float | int | None):
            raise ValueError(f"{path}: {name} must be a number or null, got {found[name]!r}")
    interval = found.get("confidence_interval") or [None, None]
    if (
        not isinstance(interval, list)
        or len(interval) != 2
        or not all(isinstance(x, float | int | None) for x in interval)
    ):
        raise ValueError(f"{path}: confidence_interval must be two numbers, got {interval!r}")
    best = found.get("best_head") or {"layer": 0, "head": 0, "score": 0.0}
    if not isinstance(best, dict) or not all(isinstance(best.get(x), float | int) for x in ("layer", "head", "score")):
        raise ValueError(f"{path}: best_head must have layer, head and score, got {best!r}")
    return found


def _eval_results(reliance: Mapping[str, Any]) -> list[EvalResult]:
    dataset = _shown(str(reliance.get("dataset") or "rows with evidence"))
    split = reliance.get("split")
    return [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=str(split) if split else None,
            metric_type=key,
            metric_name=label,
            metric_value=reliance[key],
        )
        for key, label in _METRICS.items()
        if reliance.get(key) is not None
    ]


def _reliance_section(reliance: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        return "–" if value is None else f"{value:.3f}"

    interval = reliance.get("confidence_interval") or (None, None)
    where = f" on `{_shown(reliance['dataset'])}`, split {reliance['split']}" if reliance.get("dataset") else ""
    return f"""Visual Reliance Score{where} ({reliance.get("n") or 0:,} questions with evidence; 1: every right answer
needed the evidence, 0: none did):

| | |
|---|---|
| Visual Reliance Score | {shown(reliance["visual_reliance_score"])} ({shown(interval[0])} to {shown(interval[1])}) |
| the same with random boxes | {shown(reliance.get("random_reliance_score"))} |
| accuracy | {shown(reliance.get("accuracy"))} |
| accuracy, evidence blacked out | {shown(reliance.get("masked_accuracy"))} |
| accuracy, random boxes blacked out | {shown(reliance.get("random_masked_accuracy"))} |"""


def _heads_section(explanation: Mapping[str, Any]) -> str:
    best = explanation.get("best_head") or {}
    told = (
        f"Best-aligned head: layer {best['layer']}, head {best['head']} (Spearman {best['score']:.3f})."
        if best
        else "No head could be compared with a mask."
    )
    return f"{told}\n\n![Which attention heads look at the evidence](head_map.png)"
