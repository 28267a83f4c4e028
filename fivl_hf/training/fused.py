"""One forward pass for both tasks, through TRL's fused head."""

from typing import Any

import torch

from fivl_hf.training.targets import IGNORE, merge_targets

__all__ = ["FusedPass", "vision_sums"]


class FusedPass:
    """Takes the model's place in TRL's ``compute_loss``: scores both tasks at once and gives TRL the text's part.

    Without vision labels it changes nothing, and only notes the text's part.

    Attributes (each (B, T)): text_log_probs, text_mask, weighted_vision_nll, vision_mask, vision_weights,
        vision_correct.
        aux_loss: the router's loss of a mixture of experts, a scalar; None without one.
    """

    text_log_probs: torch.Tensor | None = None
    text_mask: torch.Tensor
    weighted_vision_nll: torch.Tensor
    vision_mask: torch.Tensor
    vision_weights: torch.Tensor
    vision_correct: torch.Tensor
    aux_loss: torch.Tensor | None = None

    def __init__(
        self, model: Any, vision_labels: torch.Tensor | None = None, vision_weights: torch.Tensor | None = None
    ) -> None:
        self.model = model
        self.vision_labels = vision_labels
        if vision_labels is not None:
            self.vision_mask = vision_labels != IGNORE
            self.vision_weights = self.vision_mask.float() if vision_weights is None else vision_weights

    def __call__(self, fused_lm_head: bool = False, **inputs: Any) -> Any:
        if not fused_lm_head:
            return self.model(**inputs)
        if self.vision_labels is None:
            outputs = self.model(**inputs, fused_lm_head=True)
            self.text_log_probs, self.text_mask = outputs.log_probs, outputs.label_mask
            return outputs
        # Both tasks' targets in one tensor, shifted already: one pass through the head scores each position once.
        targets = merge_targets(inputs.pop("labels"), self.vision_labels)
        outputs = self.model(**inputs, shift_labels=targets, fused_lm_head=True)
        self.aux_loss = getattr(outputs, "aux_loss", None)
        self.text_mask = outputs.label_mask & ~self.vision_mask
        self.weighted_vision_nll = -outputs.log_probs.masked_fill(~self.vision_mask, 0) * self.vision_weights
        self.vision_correct = outputs.is_top1.masked_fill(~self.vision_mask, 0)
        # TRL adds up what it finds per position: the image positions count as nothing there.
        for name, value in list(outputs.items()):
            if value is not None and value.shape == self.text_mask.shape:
                outputs[name] = value.masked_fill(self.vision_mask, 0)
        self.text_log_probs = outputs.log_probs
        return outputs

    def language_sums(self) -> dict[str, torch.Tensor]:
        """Return the text's summed loss and number of targets, scalars; nothing before the pass."""
        if self.text_log_probs is None:
            return {}
        return {"language_nll": -self.text_log_probs.sum(), "language_targets": self.text_mask.sum()}

    def vision_sums(self) -> dict[str, torch.Tensor]:
        """Return the image positions' summed loss, weights, targets and right predictions, scalars."""
        return {
            "vision_nll": self.weighted_vision_nll.sum(),
            "vision_weight": self.vision_weights.sum(),
            "vision_targets": self.vision_mask.sum(),
            "vision_correct": self.vision_correct.sum(),
        }


@torch.no_grad()
def vision_sums(model: Any, inputs: dict[str, Any], vision_labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Score the image positions alone, for metrics: :meth:`FusedPass.vision_sums` of a pass without text targets.

    Args:
        vision_labels: (B, T) keyword ids at image positions, -100 elsewhere.
    """
    fused = FusedPass(model, vision_labels)
    fused(fused_lm_head=True, **{**inputs, "labels": torch.full_like(vision_labels, IGNORE)})
    return fused.vision_sums()
