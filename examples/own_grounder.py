"""Make a dataset with a grounder of your own: here, evidence is where an image differs most from its mean colour.

    python examples/own_grounder.py INPUT.json IMAGES OUTPUT

INPUT.json is a LLaVA file (or anything else that ``fivl augment --input`` reads). Swap ``ContrastGrounder`` for your
model; a run that is interrupted resumes when it is started again.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fivl_hf.augment.extractors.noun_phrases import NounPhraseExtractor
from fivl_hf.augment.grounding import Grounding, GroundingRequest, clean_mask
from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.pipeline import RunSettings, run_augmentation
from fivl_hf.augment.rows import Tools
from fivl_hf.jobs.engines import LocalEngine
from fivl_hf.masks import mask_boxes


class ContrastGrounder:
    """The same evidence for every expression of a sample."""

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]:
        return [[self.evidence(request)] * len(request.expressions) for request in requests]

    def evidence(self, request: GroundingRequest) -> Grounding | None:
        pixels = np.asarray(request.images[0], dtype=np.float64)
        distance = np.linalg.norm(pixels - pixels.mean(axis=(0, 1)), axis=2)
        mask = clean_mask(distance > np.quantile(distance, 0.9))
        if not mask.any():
            return None
        x0, y0, x1, y1 = mask_boxes(mask[None])[0].tolist()
        return Grounding(mask, ((x0, y0, x1, y1),))


def tools(worker: int) -> Tools:
    """Return what one worker process needs. Load models here; the number may choose a GPU."""
    print(f"worker {worker} starts")
    return Tools(NounPhraseExtractor(), ContrastGrounder())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="conversations")
    parser.add_argument("images", type=Path, help="folder of their images")
    parser.add_argument("output", type=Path, help="folder of the dataset")
    options = parser.parse_args()
    records = partial(read_conversations, InputSettings(options.input, images=(options.images,)))
    result = run_augmentation(records, tools, RunSettings(options.output), engine=LocalEngine(workers=2))
    print(result.tally)


if __name__ == "__main__":
    main()
