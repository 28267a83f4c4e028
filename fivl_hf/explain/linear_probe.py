"""Linear probes: how much of a patch's keyword can be read from the vision tower, and from the language model.

The control for Vision Modeling: what is linearly readable from a frozen tower was there before the training.

Shapes: N patches, D features, K keywords.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fivl_hf.bootstrap import clustered_mean_interval
from fivl_hf.explain.samples import Sample, prepare_batch, readable, row_batches
from fivl_hf.masks import FloatArray

__all__ = ["linear_probe", "probe_patches"]

# A patch counts when a mask covers at least this share of it.
_COVERED = 0.5
# Ridge penalty per sample, on standardized features.
_RIDGE = 1e-2


def linear_probe(features: FloatArray, labels: NDArray[np.int64], new_features: FloatArray) -> NDArray[np.int64]:
    """Return the labels that ridge regression on one-hot labels predicts for other features.

    Args:
        features: (N, D).
        labels: (N,).
        new_features: (M, D).

    Returns:
        (M,) of the labels seen.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    known = np.concatenate([(features - mean) / scale, np.ones((len(features), 1))], axis=1)
    gram = known.T @ known + _RIDGE * len(known) * np.eye(known.shape[1])
    weights = np.linalg.solve(gram, known.T @ np.eye(len(names))[numbers])
    new = np.concatenate([(new_features - mean) / scale, np.ones((len(new_features), 1))], axis=1)
    return names[(new @ weights).argmax(axis=1)]


def probe_patches(
    model: Any,
    processor: Any,
    training_rows: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Fit linear probes on the patches of some rows and measure them on others.

    A patch's label is the head noun of the first expression whose mask covers at least half of it; other patches do not
    count.

    Args:
        model: a transformers model whose vision tower's output goes through ``model.model.multi_modal_projector``, as
            LLaVA's does.
        training_rows, rows: raw rows, of different images.

    Returns:
        ``tower`` and ``language_model`` (its last layer at the image's positions), each with ``accuracy`` and its
        image-wise bootstrap ``confidence_interval``; ``most_frequent``, the accuracy of always saying the most frequent
        keyword; ``patches``, how many were measured.

    Raises:
        ValueError: no such projector, or no patch that an expression covers.
        RowError, ImageError: as :func:`fivl_hf.explain.samples.readable`.
    """
    known, new = (_read_patches(model, processor, each, batch_size) for each in (training_rows, rows))
    measured = {
        name: _accuracy(linear_probe(known.features[name], known.labels, features), new)
        for name, features in new.features.items()
    }
    most_frequent = np.bincount(known.labels).argmax()
    return {
        **measured,
        "most_frequent": float(np.mean(new.labels == most_frequent)),
        "patches": len(new.labels),
    }


@dataclass(frozen=True)
class _Patches:
    """The patches of rows that an expression covers.

    Attributes:
        features: by name, (N, D).
        labels: (N,) token ids.
        images: (N,) number of the row.
    """

    features: dict[str, FloatArray]
    labels: NDArray[np.int64]
    images: NDArray[np.int64]


def _read_patches(model: Any, processor: Any, rows: Sequence[Mapping[str, Any]], batch_size: int) -> _Patches:
    projector = getattr(model.model, "multi_modal_projector", None)
    if projector is None:
        raise ValueError(f"{type(model).__name__} has no model.multi_modal_projector, whose input is probed")
    parts: dict[str, list[FloatArray]] = {"tower": [], "language_model": []}
    labels, images = [], []
    inputs_of_projector: list[torch.Tensor] = []
    hook = projector.register_forward_pre_hook(lambda _, given: inputs_of_projector.append(given[0]))
    try:
        for batch in row_batches(rows, range(len(rows)), batch_size):
            samples = prepare_batch(model, processor, [readable(raw) for _, raw in batch])
            hidden = _last_layer(model, samples)
            features = inputs_of_projector.pop().flatten(0, -2).split([len(each.image_positions) for each in samples])
            for (number, _), sample, of_tower in zip(batch, samples, features, strict=True):
                label = _labels(sample)
                covered = np.flatnonzero(label >= 0)
                parts["tower"].append(_array(of_tower[covered]))
                parts["language_model"].append(_array(hidden[sample.place, sample.image_positions][covered]))
                labels.append(label[covered])
                images.append(np.full(len(covered), number))
    finally:
        hook.remove()
    patches = _Patches(
        {name: np.concatenate(each) for name, each in parts.items()}, np.concatenate(labels), np.concatenate(images)
    )
    if not len(patches.labels):
        raise ValueError("no patch of these rows is covered by a key expression with a noun")
    return patches


@torch.inference_mode()
def _last_layer(model: Any, samples: Sequence[Sample]) -> torch.Tensor:
    inputs = samples[0].inputs.to(model.device, model.dtype)
    return model.base_model(**inputs, use_cache=False).last_hidden_state


def _array(values: torch.Tensor) -> FloatArray:
    return values.double().cpu().numpy()


def _labels(sample: Sample) -> NDArray[np.int64]:
    """Return (N,) the keyword's id of each visual token, -1 for none."""
    labels = np.full(len(sample.image_positions), -1, dtype=np.int64)
    for evidence in reversed(sample.evidence):
        if evidence.keyword_id is not None:
            labels[np.nan_to_num(evidence.coverage) >= _COVERED] = evidence.keyword_id
    return labels


def _accuracy(predicted: NDArray[np.int64], patches: _Patches) -> dict[str, Any]:
    right = (predicted == patches.labels).astype(np.float64)
    _, groups = np.unique(patches.images, return_inverse=True)
    counts = np.bincount(groups).astype(np.float64)
    interval = clustered_mean_interval(np.bincount(groups, right).astype(np.float64), counts)
    return {"accuracy": float(right.mean()), "confidence_interval": interval}
