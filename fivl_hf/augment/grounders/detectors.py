"""Open-vocabulary detectors: Grounding DINO and its MM variant through transformers."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from fivl_hf.augment.grounding import WITHOUT_MODELS, Detection
from fivl_hf.models import hub_options

__all__ = ["GroundingDinoDetector"]


class GroundingDinoDetector:
    """Grounding DINO, one label per forward pass as in the paper, but many (image, label) pairs in a batch.

    Pairs are batched with pairs whose image has the same size at the model, so that no image is padded: the boxes
    are those of one image at a time.

    Args:
        model: folder or Hub id, such as ``IDEA-Research/grounding-dino-tiny`` or
            ``openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg``.
        threshold: smallest score of a box.
        dtype: of the computation on a GPU; weights stay in float32 (autocast).
    """

    def __init__(
        self,
        model: str | Path,
        *,
        threshold: float = 0.3,
        batch_size: int = 8,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        options = hub_options(model, "detector", WITHOUT_MODELS)
        self._processor = AutoProcessor.from_pretrained(model, **options)
        loaded: Any = AutoModelForZeroShotObjectDetection.from_pretrained(model, **options)
        self._model = loaded.to(device).eval()
        self._threshold, self._batch_size, self._dtype = threshold, batch_size, dtype

    def detect(self, pairs: Sequence[tuple[Image.Image, str]]) -> list[Detection]:
        pixels: dict[int, torch.Tensor] = {}
        sizes = defaultdict(list)
        for number, (image, _) in enumerate(pairs):
            if id(image) not in pixels:
                pixels[id(image)] = self._pixels(image)
            sizes[tuple(pixels[id(image)].shape[-2:])].append(number)
        found: dict[int, Detection] = {}
        for members in sizes.values():
            for start in range(0, len(members), self._batch_size):
                batch = members[start : start + self._batch_size]
                stacked = torch.cat([pixels[id(pairs[number][0])] for number in batch])
                found.update(zip(batch, self._batch(stacked, [pairs[number] for number in batch]), strict=True))
        return [found[number] for number in range(len(pairs))]

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        """Return an image as the model takes it, (1, 3, h, w)."""
        # Stated explicitly, because an image one pixel wide looks like one with its channels first.
        return self._processor.image_processor(np.array(image), input_data_format="channels_last", return_tensors="pt")[
            "pixel_values"
        ]

    @torch.inference_mode()
    def _batch(self, pixels: torch.Tensor, pairs: Sequence[tuple[Image.Image, str]]) -> list[Detection]:
        device = self._model.device
        texts = [label.strip().rstrip(".").lower() + "." for _, label in pairs]
        text = self._processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        pixels = pixels.to(device)
        with torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32):
            outputs = self._model(pixel_values=pixels, pixel_mask=torch.ones_like(pixels[:, 0]).long(), **text)
        # Half precision is too coarse for corners in pixels of a large image.
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        results = self._processor.post_process_grounded_object_detection(
            outputs,
            text["input_ids"],
            threshold=self._threshold,
            target_sizes=[(image.height, image.width) for image, _ in pairs],
        )
        return [Detection(*(result[name].double().cpu().numpy() for name in ("boxes", "scores"))) for result in results]
