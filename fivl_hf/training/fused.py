"""One forward pass for both tasks, through TRL's fused head."""

from typing import Any

import torch

from fivl_hf.training.targets import IGNORE, merge_targets

__all__ = ["FusedPass"]


class FusedPass:
    """Stands in for the model in TRL's ``compute_loss``: scores both tasks at once, hands TRL the text's part.

    Attributes (each (B, T)): text_log_probs, text_mask, weighted_vision_nll, vision_mask, vision_weights,
        vision_correct.
    """

    text_log_probs: torch.Tensor
    text_mask: torch.Tensor
    weighted_vision_nll: torch.Tensor
    vision_mask: torch.Tensor
    vision_weights: torch.Tensor
    vision_correct: torch.Tensor

    def __init__(self, model: Any, vision_labels: torch.Tensor, vision_weights: torch.Tensor | None) -> None:
        self.model = model
        self.vision_labels = vision_labels
        self.vision_mask = vision_labels != IGNORE
        self.vision_weights = self.vision_mask.float() if vision_weights is None else vision_weights

    def __call__(self, fused_lm_head: bool = False, **inputs: Any) -> Any:
        if not fused_lm_head:
            return self.model(**inputs)
        targets = merge_targets(inputs.pop("labels"), self.vision_labels)
        outputs = self.model(**inputs, shift_labels=targets, fused_lm_head=True)
        self.text_mask = outputs.label_mask & ~self.vision_mask
        self.weighted_vision_nll = -outputs.log_probs.masked_fill(~self.vision_mask, 0) * self.vision_weights
        self.vision_correct = outputs.is_top1.masked_fill(~self.vision_mask, 0)
        for name, value in list(outputs.items()):
            if value is not None and value.shape == self.text_mask.shape:
                outputs[name] = value.masked_fill(self.vision_mask, 0)
        self.text_log_probs = outputs.log_probs
        return outputs
