"""GroundedSam batched against one image and one label at a time, the way such scripts are written; same models.

``--device cuda`` runs it on a GPU. The models are random: what they find means nothing, what they compute is the same.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from random_models import save_grounding_dino, save_sam
from table import interleaved_medians, publish
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, SamModel, SamProcessor

from fivl_hf.augment.grounders.detectors import GroundingDinoDetector
from fivl_hf.augment.grounders.segmenters import SamSegmenter
from fivl_hf.augment.grounding import BoxGrounder, GroundingRequest, clean_mask

LABELS = ("red car", "a small dog", "the tree behind the house", "street lamp")
THRESHOLD = 0.3
# About as many boxes as a real detector leaves for a label; a random one leaves nearly all of them.
QUERIES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=8)
    device = parser.parse_args().device
    images = _images(parser.parse_args().images)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        dino = save_grounding_dino(Path(folder) / "dino", size=256, width=64, queries=QUERIES)
        sam = save_sam(Path(folder) / "sam", size=256, width=96, layers=4)
        naive = _Naive(dino, sam, device)
        requests = [GroundingRequest(str(i), (p,), (), LABELS) for i, p in enumerate(images)]
        for batch_size in (1, 4, 16):
            detector = GroundingDinoDetector(dino, threshold=THRESHOLD, batch_size=batch_size, device=device)
            ours = BoxGrounder(detector, SamSegmenter(sam, device=device))
            variants: dict[str, Any] = {
                "one": partial(_each, naive, images),
                "batched": partial(ours.ground, requests),
            }
            times = interleaved_medians(variants, 3)
            rows.append(
                {
                    "device": device,
                    "batch": batch_size,
                    "one_at_a_time_s": times["one"],
                    "batched_s": times["batched"],
                    "ratio": times["one"] / times["batched"],
                }
            )
    name = "grounding" if device == "cpu" else "grounding_gpu"
    publish(name, f"GroundedSam, {len(images)} images × {len(LABELS)} labels", rows)


def _each(naive: "_Naive", images: list[Image.Image]) -> list[Any]:
    return [naive(image) for image in images]


class _Naive:
    """One image and one label after the other; each box through all of SAM but its encoder."""

    def __init__(self, dino: Path, sam: Path, device: str) -> None:
        self._processor: Any = AutoProcessor.from_pretrained(dino)
        self._dino: Any = AutoModelForZeroShotObjectDetection.from_pretrained(dino).to(device).eval()
        self._sam_processor: Any = SamProcessor.from_pretrained(sam)
        loaded: Any = SamModel.from_pretrained(sam)
        self._sam = loaded.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> list[Any]:
        found = []
        for label in LABELS:
            inputs = self._processor(images=image, text=label + ".", return_tensors="pt").to(self._device)
            size = torch.tensor([image.size[::-1]], device=self._device)
            (result,) = self._processor.image_processor.post_process_object_detection(
                self._dino(**inputs), threshold=THRESHOLD, target_sizes=size
            )
            if not len(result["boxes"]):
                continue
            boxes = [result["boxes"].double().cpu().tolist()]
            prompt = self._sam_processor(image, input_boxes=boxes, return_tensors="pt")
            outputs = self._sam(
                pixel_values=prompt["pixel_values"].to(self._device),
                input_boxes=prompt["input_boxes"].float().to(self._device),
                multimask_output=False,
            )
            masks = self._sam_processor.image_processor.post_process_masks(
                outputs.pred_masks.cpu(), prompt["original_sizes"], prompt["reshaped_input_sizes"]
            )
            found.append(np.any([clean_mask(mask) for mask in masks[0][:, 0].numpy()], axis=0))
        return found


def _images(count: int) -> list[Image.Image]:
    """As in COCO, most are 640×480 or 480×640."""
    rng = np.random.default_rng(0)
    sizes = [(480, 640), (480, 640), (640, 480), (427, 640)]
    return [
        Image.fromarray(rng.integers(0, 255, (*sizes[i % len(sizes)], 3), dtype=np.uint8)).resize(sizes[i % 4][::-1])
        for i in range(count)
    ]


if __name__ == "__main__":
    main()
