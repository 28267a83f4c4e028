"""FiVLCollator against TRL's collator: images a second through a data loader, with 1 and 4 workers.

Images of 640 × 480 pixels as JPEG, four masks each; LLaVA-1.5's processor. Aim: at most 10% slower.
"""

import statistics
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image, ImageFilter
from table import publish
from torch.utils.data import DataLoader
from transformers import CLIPImageProcessorPil, LlavaProcessor
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from fivl_hf.images import image_bytes
from fivl_hf.masks import encode_mask, mask_boxes
from fivl_hf.scenes.model import CHAT_TEMPLATE, scene_processor
from fivl_hf.schema import FEATURES
from fivl_hf.storage import with_encoded_images
from fivl_hf.training.collator import FiVLCollator

ROWS, BATCH, MASKS, ROUNDS = 96, 8, 4, 5
SIZE = (640, 480)
WORDS = ("circle", "square", "triangle", "cross")


def processor() -> Any:
    scenes = scene_processor()
    side = {"height": 336, "width": 336}
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=side)
    return LlavaProcessor(pixels, scenes.tokenizer, 14, "default", CHAT_TEMPLATE, num_additional_image_tokens=1)


def rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [_row(rng, number) for number in range(ROWS)]


def _row(rng: np.random.Generator, number: int) -> dict[str, Any]:
    """Return an image with some texture, and ellipses for masks."""
    coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    noise = Image.fromarray(rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8))
    image = Image.blend(coarse, noise.filter(ImageFilter.GaussianBlur(1)), 0.2)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    masks = []
    for _ in range(MASKS):
        cx, cy, rx, ry = rng.uniform((100, 100, 20, 20), (540, 380, 90, 90))
        masks.append(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1)
    answer = " ".join(WORDS) + "."
    expressions = [
        {
            "turn": 0,
            "text": word,
            "start": answer.index(word),
            "end": answer.index(word) + len(word),
            "keywords": [word],
            "boxes": [mask_boxes(mask[None])[0].tolist()],
            "score": 1.0,
            "image": 0,
        }
        for word, mask in zip(WORDS, masks, strict=True)
    ]
    return {
        "id": str(number),
        "images": [{"bytes": image_bytes(image, "JPEG", quality=90), "path": None}],
        "messages": [{"role": "user", "content": "What is there?"}, {"role": "assistant", "content": answer}],
        "key_expressions": expressions,
        "masks": [{"bytes": encode_mask(mask), "path": None} for mask in masks],
        "source": "benchmark",
    }


def seconds(dataset: Any, collator: Any, workers: int) -> float:
    """Return one pass, from the first batch on: the start of the workers does not count."""
    batches = iter(
        DataLoader(
            dataset,
            batch_size=BATCH,
            collate_fn=collator,
            num_workers=workers,
            worker_init_fn=lambda _: torch.set_num_threads(1),
        )
    )
    next(batches)
    started = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    kind = processor()
    data = Dataset.from_list(rows(), features=FEATURES)
    token = kind.tokenizer.convert_tokens_to_ids("<image>")
    variants = {
        "trl": partial(
            seconds, data.select_columns(["images", "messages"]), DataCollatorForVisionLanguageModeling(processor=kind)
        ),
        "fivl": partial(
            seconds, with_encoded_images(data), FiVLCollator(processor=kind, image_token_id=token, answers_only=True)
        ),
    }
    table = []
    for workers in (0, 1, 4):
        times: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(ROUNDS):
            for name, run in variants.items():
                times[name].append(run(workers))
        rate = {name: (ROWS - BATCH) / statistics.median(found) for name, found in times.items()}
        table.append(
            {
                "workers": workers,
                "trl_images_s": rate["trl"],
                "fivl_images_s": rate["fivl"],
                "slower": rate["trl"] / rate["fivl"] - 1,
            }
        )
    publish("collation", "Collators, images a second (aim: FiVL at most 0.10 slower)", table)


if __name__ == "__main__":
    main()
