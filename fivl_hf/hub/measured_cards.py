"""Measured results on model cards: read back from the folders of ``fivl evaluate`` and ``fivl explain``."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard

from fivl_hf import __version__
from fivl_hf.models import weights_fingerprint
from fivl_hf.training.cards import shown_name, without_local_names

__all__ = ["MeasuredResults", "measured_card", "mismatches", "read_measured"]

_METRICS = {
    "visual_reliance_score": "Visual Reliance Score",
    "accuracy": "Accuracy",
    "masked_accuracy": "Accuracy, evidence blacked out",
    "random_masked_accuracy": "Accuracy, random boxes blacked out",
}
_NUMBER = float | int
_ROWS = ("dataset", "dataset_config", "split")
_RESULTS = "## Measured with fivl-hf"
_OLD_RESULTS = re.compile(rf"^{_RESULTS}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
# The two lines of training_card.
_LOADING = re.compile(
    r'^((?:model = AutoModelForImageTextToText|processor = AutoProcessor)\.from_pretrained\()"[^"]*"', re.MULTILINE
)


@dataclass(frozen=True)
class MeasuredResults:
    """The results that a model's card shows.

    Attributes:
        reliance: ``reliance.json`` of ``fivl evaluate``.
        explanation: ``explanation.json`` of ``fivl explain``.
        head_map: ``head_map.png`` of ``fivl explain``.
    """

    reliance: Mapping[str, Any] | None = None
    explanation: Mapping[str, Any] | None = None
    head_map: Path | None = None


def read_measured(evaluation: Path | None, explanation: Path | None) -> MeasuredResults:
    """Return results from the folders of ``fivl evaluate`` and ``fivl explain``.

    Raises:
        ValueError: a folder without them.
    """
    reliance = _read_json(evaluation / "reliance.json", "visual_reliance_score") if evaluation else None
    explained = _read_json(explanation / "explanation.json", "top_heads") if explanation else None
    head_map = explanation / "head_map.png" if explanation else None
    if head_map and not head_map.is_file():
        raise ValueError(f"there is no {head_map}: fivl explain writes it")
    return MeasuredResults(reliance, explained, head_map)


def mismatches(folder: Path, measured: MeasuredResults) -> list[str]:
    """Return why the results may not be this model's: other weights, another version of this package, other rows."""
    weights = weights_fingerprint(folder)
    results = {"evaluation": measured.reliance, "explanation": measured.explanation}
    given = {name: result for name, result in results.items() if result}
    problems = []
    for name, result in given.items():
        if not result.get("weights_fingerprint"):
            problems.append(f"the {name} does not say which weights it was measured with")
        elif result["weights_fingerprint"] != weights:
            problems.append(f"the {name} was measured with other weights ({shown_name(str(result.get('model')))})")
        if result.get("unfinished"):
            problems.append(f"the {name} is not finished")
        if result.get("fivl_hf_version") != __version__:
            measured_by = result.get("fivl_hf_version") or "an unknown version"
            problems.append(f"the {name} was measured with fivl-hf {measured_by}, this is {__version__}")
    rows = [{key: result.get(key) for key in _ROWS} for result in given.values()]
    digests = {result.get("rows_fingerprint") for result in given.values()}
    if len(rows) == 2 and rows[0] == rows[1] and len(digests) == 2:
        problems.append("evaluation and explanation were measured on different rows of one name")
    return problems


def measured_card(text: str | None, name: str, measured: MeasuredResults, doubts: Sequence[str] = ()) -> str:
    """Write a model's card (a new one if there is none) with its results: a section, the head map, ``model-index``.

    Args:
        doubts: why the results may not be this model's; the card says so, and ``model-index`` leaves them out.

    Raises:
        ValueError: the card's front matter is not valid YAML.
    """
    try:
        card = ModelCard(text) if text else ModelCard(f"---\ntags:\n- fivl\n---\n\n# {name}\n")
    except yaml.YAMLError as error:
        raise ValueError(f"the front matter of the model's README.md is not valid YAML: {error}") from error
    data: Any = without_local_names(card.data)
    data.tags = sorted({*(data.tags or ()), "fivl"})
    sections = []
    if doubts:
        sections.append("\n".join(f"> Pushed with `--force`: {doubt}." for doubt in doubts))
    if measured.reliance:
        # Machines read these as the model's own results.
        if not doubts:
            data.model_name = data.to_dict().get("model_name") or name
            data.eval_results = _eval_results(measured.reliance)
        sections.append(_reliance_section(measured.reliance))
    if measured.explanation:
        sections.append(_heads_section(measured.explanation))
    # Results of an earlier push are replaced; other text is kept.
    body = _OLD_RESULTS.sub("", card.text).rstrip()
    # Trained under a folder's name, a model is loaded by its name on the Hub.
    body = _LOADING.sub(rf'\g<1>"{name}"', body)
    results = "\n\n".join([_RESULTS, *sections])
    card.text = f"{body}\n\n{results}\n" if sections else f"{body}\n"
    return str(card)


def _read_json(path: Path, key: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"there is no {path}: give the output folder of a command that has finished")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, dict) or key not in found:
        raise ValueError(f"{path} holds no {key!r}: it is not a result of fivl-hf; run the command again")
    for name in (*_METRICS, "random_reliance_score", "n", "measured_on"):
        if not isinstance(found.get(name), _NUMBER | None):
            raise ValueError(f"{path}: {name} must be a number or null, got {found[name]!r}")
    interval = found.get("confidence_interval") or [None, None]
    if not isinstance(interval, list) or len(interval) != 2 or not all(isinstance(x, _NUMBER | None) for x in interval):
        raise ValueError(f"{path}: confidence_interval must be two numbers, got {interval!r}")
    best = found.get("best_head") or {"layer": 0, "head": 0, "score": None}
    if (
        not isinstance(best, dict)
        or not all(isinstance(best.get(name), int) for name in ("layer", "head"))
        or not all(isinstance(best.get(name), _NUMBER | None) for name in ("score", "control"))
    ):
        raise ValueError(f"{path}: best_head must have layer, head and score, got {best!r}")
    return found


def _eval_results(reliance: Mapping[str, Any]) -> list[EvalResult]:
    dataset = shown_name(str(reliance.get("dataset") or "rows with evidence"))
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
    low, high = reliance.get("confidence_interval") or (None, None)
    where = f" on `{shown_name(reliance['dataset'])}`, split {reliance['split']}" if reliance.get("dataset") else ""
    note = f"\n\n{reliance['random_note']}." if reliance.get("random_note") else ""
    return f"""Visual Reliance Score{where} ({reliance.get("n") or 0:,} questions with evidence; 1: every right answer
needed the evidence, 0: none did):

| | |
|---|---|
| Visual Reliance Score | {_shown(reliance["visual_reliance_score"])} ({_shown(low)} to {_shown(high)}) |
| the same with random boxes | {_shown(reliance.get("random_reliance_score"))} |
| accuracy | {_shown(reliance.get("accuracy"))} |
| accuracy, evidence blacked out | {_shown(reliance.get("masked_accuracy"))} |
| accuracy, random boxes blacked out | {_shown(reliance.get("random_masked_accuracy"))} |{note}"""


def _heads_section(explanation: Mapping[str, Any]) -> str:
    best = explanation.get("best_head")
    told = (
        f"Best-aligned head: layer {best['layer']}, head {best['head']}. Its Spearman correlation with the evidence is "
        f"{_shown(best.get('score'))} on {explanation.get('measured_on') or 0:,} key expressions that it was not "
        f"chosen on, and {_shown(best.get('control'))} with masks of other images."
        if best
        else f"No head was chosen: {explanation.get('reason') or 'none could be compared with a mask'}."
    )
    return f"{told}\n\n![Which attention heads look at the evidence](head_map.png)"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
