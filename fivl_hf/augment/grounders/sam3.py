"""SAM 3 through transformers: one model from words to masks."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fivl_hf.augment.grounding import WITHOUT_MODELS, Grounding, GroundingRequest, share_masks
from fivl_hf.masks import union
from fivl_hf.models import hub_options

__all__ = ["Sam3Grounder"]


class Sam3Grounder:
    """Grounds expressions with SAM 3; an image is encoded once for all its expressions.

    Masks are SAM 3's own (it needs no clean-up); an expression's instances are united.

    Args:
        model: folder or Hub id, such as ``facebook/sam3`` (its image processor needs torchvision).
        threshold: smallest score of an instance.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        threshold: float = 0.3,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        from transformers import Sam3Model, Sam3Processor

        options = hub_options(model, "SAM 3 model", WITHOUT_MODELS)
        self._processor = Sam3Processor.from_pretrained(model, **options)
        loaded: Any = Sam3Model.from_pretrained(model, **options)
        self._model = loaded.to(device).eval()
        self._threshold, self._dtype = threshold, dtype

    def at(self, threshold: float) -> "Sam3Grounder":
        """Return a grounder with another threshold that shares this one's weights; each of them runs the model."""
        other = copy(self)
        other._threshold = threshold
        return other

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]:
        return [self._sample(request) for request in requests]

    def _sample(self, request: GroundingRequest) -> list[Grounding | None]:
        labels = list(dict.fromkeys(request.expressions))
        best: dict[str, Grounding] = {}
        for index, image in enumerate(request.images):
            for label, grounding in self._image(image, index, labels).items():
                if label not in best or (grounding.score or 0) > (best[label].score or 0):
                    best[label] = grounding
        return [best.get(text) for text in request.expressions]

    @torch.inference_mode()
    def _image(self, image: Image.Image, index: int, labels: list[str]) -> dict[str, Grounding]:
        device = self._model.device
        pixels = self._processor(images=image, return_tensors="pt")["pixel_values"].to(device)
        groundings: dict[str, Grounding] = {}
        with torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32):
            seen = self._model.get_vision_features(pixels)
            for label in labels:
                text = self._processor(text=label, return_tensors="pt").to(device)
                outputs = self._model(vision_embeds=seen, **text)
                if grounding := self._grounding(outputs, image, index):
                    groundings[label] = grounding
        return share_masks(groundings)

    def _grounding(self, outputs: Any, image: Image.Image, index: int) -> Grounding | None:
        """Return the united instances above the threshold, their boxes clipped to the image."""
        size = image.size[::-1]
        (result,) = self._processor.post_process_instance_segmentation(
            outputs, threshold=self._threshold, target_sizes=[size]
        )
        masks = np.asarray(result["masks"].cpu()).astype(bool)
        filled = masks.any(axis=(1, 2)) if len(masks) else np.zeros(0, dtype=bool)
        limits = np.array([*image.size, *image.size], dtype=np.float64)
        boxes = np.clip(result["boxes"].double().cpu().numpy().reshape(-1, 4), 0, limits)
        kept = filled & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if not kept.any():
            return None
        corners = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in boxes[kept])
        score = float(result["scores"].double().cpu().numpy()[kept].max())
        return Grounding(union(masks[kept]), corners, score, index)
