"""Sums over the batches between two logs, and the metrics they give."""

from collections.abc import Callable, Mapping

import torch

__all__ = ["RunningSums", "vision_metrics"]


class RunningSums:
    """Named sums of training and of evaluation, each since its last log.

    Args:
        reduce: adds a tensor up over all processes. It is called with every batch, because only one process may log.
    """

    def __init__(self, reduce: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._reduce = reduce
        self._sums: dict[str, dict[str, torch.Tensor]] = {}

    def add(self, mode: str, values: Mapping[str, torch.Tensor]) -> None:
        """Add one batch's sums, scalars (shape ()), to those of ``"train"`` or ``"eval"``."""
        names = list(values)
        added = self._reduce(torch.stack([values[name].detach().float() for name in names]))
        sums = self._sums.setdefault(mode, {})
        for name, value in zip(names, added, strict=True):
            sums[name] = sums[name] + value if name in sums else value

    def pop(self, mode: str) -> dict[str, float]:
        """Return a mode's sums and begin again; empty if nothing was added."""
        sums = self.peek(mode)
        self._sums.pop(mode, None)
        return sums

    def peek(self, mode: str) -> dict[str, float]:
        """Return a mode's sums."""
        return {name: float(value) for name, value in self._sums.get(mode, {}).items()}


def vision_metrics(total: Mapping[str, float]) -> dict[str, float]:
    """Return means over all targets from their sums; a mean without targets is left out.

    Args:
        total: ``language_nll`` and ``language_targets``; where vision targets were measured, ``vision_nll`` (weighted),
            ``vision_weight``, ``vision_targets``, ``vision_correct`` and ``image_tokens``.
    """
    metrics: dict[str, float] = {}
    if total.get("language_targets"):
        metrics["language_loss"] = total["language_nll"] / total["language_targets"]
    if "image_tokens" in total:
        metrics["labelled_patches"] = total["vision_targets"] / max(total["image_tokens"], 1)
    if total.get("vision_targets"):
        metrics["vision_token_accuracy"] = total["vision_correct"] / total["vision_targets"]
    if total.get("vision_weight"):
        metrics["vision_loss"] = total["vision_nll"] / total["vision_weight"]
    return metrics
