"""FiVL's benchmarks as tasks of lmms-eval: the functions that the YAML files in ``lmms_eval_tasks`` name.

A task asks each question once under each condition, so its documents are the questions times the conditions. The
dataset of a task is the folder of its name in the working directory (``fivl-pope``), or what the environment says
(``FIVL_POPE``, ``FIVL_GQA``, ``FIVL_VQAV2``: a folder or a Hub id); ``FIVL_CONDITIONS`` names the conditions.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from fivl_hf.evaluation.conditions import require_conditions
from fivl_hf.evaluation.integrations.shared import METRICS, images_under, metrics, scored_answer
from fivl_hf.evaluation.plan import DEFAULT_CONDITIONS, Plan, PlannedRequest
from fivl_hf.evaluation.scorers import default_scorer, scorer
from fivl_hf.storage.reading import with_encoded_images

__all__ = ["TASKS"]

TASKS = Path(__file__).with_name("lmms_eval_tasks")
"""The folder with the YAML files, for ``--include_path``."""

pope_dataset = os.environ.get("FIVL_POPE", "fivl-pope")
gqa_dataset = os.environ.get("FIVL_GQA", "fivl-gqa")
vqav2_dataset = os.environ.get("FIVL_VQAV2", "fivl-vqav2")

_SEED = 0
_CONDITIONS = tuple(os.environ.get("FIVL_CONDITIONS", ",".join(DEFAULT_CONDITIONS)).replace(" ", "").split(","))
require_conditions(_CONDITIONS)
# lmms-eval's cache of answers is keyed by a document's number and prompt and by its task's configuration, not by its
# images: a digest of images, boxes and conditions is added to the configuration while documents are made.
pope_metadata: dict[str, Any] = {"version": 1.0, "conditions": ",".join(_CONDITIONS), "seed": _SEED}
gqa_metadata, vqav2_metadata = dict(pope_metadata), dict(pope_metadata)

# Columns of a document beside the row's own and its condition, as they are where nothing is asked.
_ADDED: dict[str, Any] = {"prompt": "", "others": "", "overlap": 0.0, "picture": ""}
# Of each metric's items.
_FIELDS = ("id", "condition", "value", "parsed", "picture", "has_evidence", "category", "overlap")


def pope_docs(rows: datasets.Dataset) -> datasets.Dataset:
    """Return FiVL-POPE's questions, each under every condition."""
    return _under_conditions(rows, pope_metadata)


def gqa_docs(rows: datasets.Dataset) -> datasets.Dataset:
    """Return FiVL-GQA's questions, each under every condition."""
    return _under_conditions(rows, gqa_metadata)


def vqav2_docs(rows: datasets.Dataset) -> datasets.Dataset:
    """Return FiVL-VQAv2's questions, each under every condition."""
    return _under_conditions(rows, vqav2_metadata)


def _under_conditions(rows: datasets.Dataset, metadata: dict[str, Any]) -> datasets.Dataset:
    """Return a row for each question and condition, those of a question together, since a limit counts rows."""
    plan = Plan(with_encoded_images(rows), _CONDITIONS, seed=_SEED)
    places = {id: place for place, id in enumerate(rows["id"])}
    columns: dict[str, dict[str, list[Any]]] = {
        name: {"condition": [name] * len(rows), **{column: [empty] * len(rows) for column, empty in _ADDED.items()}}
        for name in plan.conditions
    }
    chosen, digest = [], hashlib.sha256()
    for request in plan:
        place, added = places[request.id], _added_columns(request)
        for column, value in added.items():
            columns[request.condition][column][place] = value
        chosen.append(plan.conditions.index(request.condition) * len(rows) + place)
        digest.update(json.dumps([request.id, request.condition, request.boxes, added]).encode())
    metadata[f"questions of {rows.split}"] = digest.hexdigest()[:16]
    # Neither adding columns nor choosing rows of a concatenation copies images.
    parts = []
    for added in columns.values():
        part = rows
        for column, values in added.items():
            part = part.add_column(column, values)
        parts.append(part)
    return datasets.concatenate_datasets(parts).select(chosen)


def _added_columns(request: PlannedRequest) -> dict[str, Any]:
    return {
        "prompt": request.messages[-1]["content"],
        "others": json.dumps(request.others),
        "overlap": request.overlap,
        "picture": request.question.picture,
    }


def doc_to_text(doc: Mapping[str, Any]) -> str:
    """Return the question as it is asked."""
    return str(doc["prompt"])


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """Return the images as the condition shows them; none for "text-only"."""
    return images_under(doc, doc["condition"], others=json.loads(doc["others"]), seed=_SEED)


def doc_to_messages(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the question with its images in front."""
    images = [{"type": "image", "url": image} for image in doc_to_visual(doc)]
    return [{"role": "user", "content": [*images, {"type": "text", "text": doc_to_text(doc)}]}]


def doc_to_target(doc: Mapping[str, Any]) -> str:
    """Return the first reference answer."""
    return str(doc["answers"][0])


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Score an answer by the benchmark's scorer; every metric is computed from all answers under all conditions."""
    value = scorer(default_scorer(doc["source"]))(results[0], doc["answers"])
    item = {
        "id": doc["id"],
        "condition": doc["condition"],
        # Not "score", of which lmms-eval would take a standard error over all conditions.
        "value": value or 0.0,
        "parsed": value is not None,
        "picture": doc["picture"],
        "has_evidence": any(expression["boxes"] for expression in doc["key_expressions"]),
        "category": doc["category"] or doc["source"],
        "overlap": doc["overlap"],
    }
    return dict.fromkeys(METRICS, item)


@lru_cache(maxsize=3)
def _metrics_of(items: tuple[tuple[Any, ...], ...]) -> dict[str, float | None]:
    answers = (scored_answer(**dict(zip(_FIELDS, item, strict=True))) for item in items)
    return metrics(answers, seed=_SEED)


def _metric(name: str) -> Callable[[Sequence[Mapping[str, Any]]], float]:
    def metric(items: Sequence[Mapping[str, Any]]) -> float:
        value = _metrics_of(tuple(tuple(item[field] for field in _FIELDS) for item in items))[name]
        return math.nan if value is None else value

    return metric


visual_reliance_score = _metric("visual_reliance_score")
reliance_low = _metric("reliance_low")
reliance_high = _metric("reliance_high")
accuracy = _metric("accuracy")
masked_accuracy = _metric("masked_accuracy")
random_reliance_score = _metric("random_reliance_score")
reliance_over_random = _metric("reliance_over_random")
unparsed = _metric("unparsed")
